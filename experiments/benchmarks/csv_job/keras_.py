"""Keras on JAX: dropout, class weights and early stopping built in; the columns are scikit-learn's, saved beside it."""

import os

os.environ["KERAS_BACKEND"] = "jax"
import joblib
import keras
import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.class_weight import compute_class_weight

keras.utils.set_random_seed(0)
table = pd.read_csv("penguins.csv")
classes, labels = np.unique(table["species"], return_inverse=True)
X, X_test, y, y_test = train_test_split(table.drop(columns="species"), labels, random_state=0)
X, X_validation, y, y_validation = train_test_split(X, y, test_size=0.1, stratify=y, random_state=0)
numbers = make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include="number")
names = OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")
columns = make_column_transformer(numbers, names).fit(X)
layers = keras.layers.Dense(32, "relu"), keras.layers.Dropout(0.2), keras.layers.Dense(3, "softmax")
net = keras.Sequential([keras.Input((columns.transform(X).shape[1],)), *layers])
net.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
weights = dict(enumerate(compute_class_weight("balanced", classes=np.unique(y), y=y)))
held_out = columns.transform(X_validation), y_validation
stop = keras.callbacks.EarlyStopping(patience=10, restore_best_weights=True)
net.fit(columns.transform(X), y, 128, 200, 0, [stop], validation_data=held_out, class_weight=weights)
print("accuracy", net.evaluate(columns.transform(X_test), y_test, verbose=0)[1])
net.save("net.keras")
joblib.dump((columns, classes), "columns.joblib")

# In another process.
import os

os.environ["KERAS_BACKEND"] = "jax"
import joblib
import keras
import pandas as pd

columns, classes = joblib.load("columns.joblib")
rows = columns.transform(pd.read_csv("penguins.csv").tail(3))
print(classes[keras.saving.load_model("net.keras").predict(rows, verbose=0).argmax(axis=1)])
