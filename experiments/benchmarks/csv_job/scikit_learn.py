"""scikit-learn: weights by hand, no dropout, and validation on a part that it draws itself."""

import joblib
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

table = pd.read_csv("penguins.csv")
X, X_test, y, y_test = train_test_split(table.drop(columns="species"), table["species"], random_state=0)
numbers = make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include="number")
names = OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")
net = MLPClassifier((32,), early_stopping=True, random_state=0)
model = make_pipeline(make_column_transformer(numbers, names), net)
model.fit(X, y, mlpclassifier__sample_weight=compute_sample_weight("balanced", y))
print("accuracy", model.score(X_test, y_test))
joblib.dump(model, "model.joblib")

# In another process.
import joblib
import pandas as pd

print(joblib.load("model.joblib").predict(pd.read_csv("penguins.csv").tail(3)))
