"""Row 7: time to accuracy, the whole of a training from a fresh start."""

import warnings

import jax
import numpy as np
import optax

import jaxnet
from experiments.benchmarks.contest import Contestant, Race
from jaxnet import data

TARGET = 0.97
HIDDEN, BATCH, RATE, EPOCHS = 32, 32, 0.01, 10  # one recipe for all: Adam whose rate falls to 0 along a cosine


def races(config) -> list[Race]:
    """Digits to 97 % test accuracy, the mean over seeds (start, split and order)."""
    seeds = range(3 if config.quick else 100)
    splits = [data.digits(seed) for seed in seeds]
    net = jaxnet.MLP((64, HIDDEN, 10), ("relu", "softmax"))
    steps = EPOCHS * -(-splits[0].X.shape[1] // BATCH)
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, steps))
    targets = [np.asarray(jaxnet.one_hot(split.labels, 10)) for split in splits]

    def mean_accuracy(accuracies) -> float:
        mean = float(np.mean(accuracies))
        if mean < TARGET and not config.quick:
            raise ValueError(f"its mean test accuracy is {mean:.2%}, below {TARGET:.0%}")
        return mean

    def ours():
        def run():
            found = []
            for seed, split, Y in zip(seeds, splits, targets, strict=True):
                params = jaxnet.fit(
                    net,
                    split.X,
                    Y,
                    key=jax.random.key(seed),
                    optimizer=optimizer,
                    epochs=EPOCHS,
                    batch_size=BATCH,
                    progress=False,
                ).params
                A = np.asarray(jaxnet.predict(net, params, split.X_test))
                found.append((A.argmax(axis=0) == split.labels_test).mean())
            return found

        return run

    def sklearn():
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        rows = [(np.ascontiguousarray(s.X.T), np.ascontiguousarray(s.X_test.T)) for s in splits]

        def run():
            found = []
            for seed, split, (train, test) in zip(seeds, splits, rows, strict=True):
                model = MLPClassifier(
                    (HIDDEN,),
                    alpha=0.0,
                    batch_size=BATCH,
                    learning_rate_init=RATE / 2,
                    max_iter=2 * EPOCHS,
                    tol=0.0,
                    n_iter_no_change=2 * EPOCHS + 1,
                    random_state=seed,
                )  # no schedule for Adam there: half the rate, twice the epochs
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    model.fit(train, split.labels)
                found.append(model.score(test, split.labels_test))
            return found

        return run

    def torch():
        import torch

        torch.set_num_threads(1)

        def one(seed, split):
            torch.manual_seed(seed)
            X, labels = torch.tensor(np.ascontiguousarray(split.X.T)), torch.tensor(split.labels)
            model = torch.nn.Sequential(torch.nn.Linear(64, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 10))
            optimizer, loss_of = torch.optim.Adam(model.parameters(), lr=RATE), torch.nn.CrossEntropyLoss()
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            for _ in range(EPOCHS):
                for i in torch.randperm(X.shape[0]).split(BATCH):
                    optimizer.zero_grad(set_to_none=True)
                    loss_of(model(X[i]), labels[i]).backward()
                    optimizer.step()
                    schedule.step()
            read = model(torch.tensor(np.ascontiguousarray(split.X_test.T))).argmax(dim=1).numpy()
            return (read == split.labels_test).mean()

        return lambda: [one(seed, split) for seed, split in zip(seeds, splits, strict=True)]

    contestants = (
        Contestant("jaxnet.fit", ours, mean_accuracy),
        Contestant("scikit-learn", sklearn, mean_accuracy, "sklearn", tolerance=0.02),
        Contestant("torch, 1 thread", torch, mean_accuracy, "torch", tolerance=0.02),
    )
    return [
        Race(
            f"7 time to {TARGET:.0%} on digits, mean of {len(seeds)} seeds (final cost: test accuracy)",
            contestants,
            "ms a training",
            1e3 / len(seeds),
            "<= 30 ms, >= 20x scikit-learn",
            {"scikit-learn": 20},
            30.0,
        )
    ]
