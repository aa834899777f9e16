"""What the usual notebook does, as a script: the thing that `dvc repro` is timed against.

Same network, 25 epochs, batches of 64, Opacus' tutorial loop, ε after each epoch, and plots; with
the usual notebook's privacy, which is to say that its ε leaves out the scaler, the split, the
curves and the confusion matrix.
"""

import sys

import matplotlib.pyplot as plt
import pandas as pd
import torch
from opacus import PrivacyEngine
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, confusion_matrix
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 25
DELTA = 1e-5

table, folder = sys.argv[1:]
frame = pd.read_csv(table)
target = (frame.pop("charges") > 15000).astype(int).to_numpy()
x_train, x_test, y_train, y_test = train_test_split(
    pd.get_dummies(frame, dtype=float).to_numpy(), target, test_size=0.2, random_state=0
)
scaler = StandardScaler().fit(x_train)
x_train, x_test = (
    torch.tensor(scaler.transform(x), dtype=torch.float32) for x in (x_train, x_test)
)
rows = TensorDataset(x_train, torch.tensor(y_train))

model = nn.Sequential(
    nn.Linear(x_train.shape[1], 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2)
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
engine = PrivacyEngine()
model, optimizer, loader = engine.make_private_with_epsilon(
    module=model,
    optimizer=optimizer,
    data_loader=DataLoader(rows, batch_size=64),
    target_epsilon=3.5,
    target_delta=DELTA,
    epochs=EPOCHS,
    max_grad_norm=1.0,
)
losses, epsilons = [], []
for _ in range(EPOCHS):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
    losses.append(total / len(rows))
    epsilons.append(engine.get_epsilon(DELTA))

predicted = model(x_test).argmax(1).numpy()
print(f"accuracy {accuracy_score(y_test, predicted):.3f}, ε {epsilons[-1]:.2f}")
for name, values in (("loss", losses), ("epsilon", epsilons)):
    plt.figure()
    plt.plot(values)
    plt.savefig(f"{folder}/{name}.png")
ConfusionMatrixDisplay(confusion_matrix(y_test, predicted)).plot()
plt.savefig(f"{folder}/confusion_matrix.png")
