from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compresskit.errors import InputError, UsageError
from compresskit.training.objectives import check_targets, distillation, loss, predict, supervised

X = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 2, 1, 0, 1])


@pytest.fixture
def student() -> nn.Module:
    return nn.Linear(4, 3)


@pytest.fixture
def teacher() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))


@pytest.mark.parametrize(("temperature", "weight"), [(4.0, 0.9), (1.0, 0.3)])
def test_distillation_is_the_formula_of_hinton(student: nn.Module, teacher: nn.Module, temperature: float, weight: float) -> None:
    found = distillation(teacher, temperature=temperature, weight=weight)(student, X, Y).item()
    s, t = student(X).detach().double().numpy(), teacher[0](X).detach().double().numpy()

    def softmax(z: np.ndarray) -> np.ndarray:
        return np.exp(z) / np.exp(z).sum(1, keepdims=True)

    hard = -np.log(softmax(s)[np.arange(7), Y]).mean()
    p, q = softmax(t / temperature), softmax(s / temperature)
    soft = (p * np.log(p / q)).sum(1).mean() * temperature**2
    assert found == pytest.approx((1 - weight) * hard + weight * soft, rel=1e-5)


def test_only_the_student_learns(student: nn.Module, teacher: nn.Module) -> None:
    distillation(teacher)(student, X, Y).backward()
    assert all(p.grad is not None for p in student.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_a_student_equal_to_its_teacher_has_no_soft_loss(student: nn.Module) -> None:
    assert distillation(student, weight=1.0)(student, X, Y).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"temperature": float("nan")}, {"weight": -0.1}, {"weight": 1.5}])
def test_impossible_distillations_are_refused(teacher: nn.Module, settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="distillation"):
        distillation(teacher, **settings)


def test_label_smoothing_mixes_in_the_uniform_distribution(student: nn.Module) -> None:
    uniform = -torch.log_softmax(student(X), 1).mean()
    expected = 0.8 * supervised()(student, X, Y) + 0.2 * uniform
    assert supervised(0.2)(student, X, Y).item() == pytest.approx(expected.item(), rel=1e-5)


def test_numbers_are_squared_errors_whether_or_not_the_output_has_a_last_axis() -> None:
    y = torch.tensor([1.0, 3.0])
    assert loss(torch.tensor([[0.0], [1.0]]), y).item() == loss(torch.tensor([0.0, 1.0]), y).item() == 2.5


def test_one_output_in_a_tuple_is_that_output() -> None:
    class Wrapped(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return (x,)

    assert predict(Wrapped(), X) is X


def test_targets_that_fit() -> None:
    check_targets(torch.zeros(2, 3), np.array([0, 1, 2]))
    check_targets(torch.zeros(2, 3, 8, 8), np.full((2, 8, 8), 2))
    check_targets(torch.zeros(2, 1), np.zeros(9, np.float32))
    check_targets(torch.zeros(2, 4), np.zeros((9, 4), np.float32))


@pytest.mark.parametrize(
    ("shape", "y", "message"),
    [
        ((2, 3), np.array([0, 3]), "the labels run from 0 to 3, but the model has 3 outputs"),
        ((2, 3), np.array([-1, 2]), "the labels run from -1 to 2"),
        ((2,), np.array([0, 1]), "the model has 1 outputs"),
        ((2, 3, 8, 8), np.zeros((2, 4, 8), int), "the labels are 4 x 8 a sample, but the model puts out 8 x 8"),
        ((2, 3), np.zeros((2, 4, 8), int), "the labels are 4 x 8 a sample, but the model puts out one"),
        ((2, 3), np.zeros((9, 2), np.float32), "2 numbers a sample, but the model puts out 3"),
    ],
)
def test_targets_that_do_not_fit(shape: tuple[int, ...], y: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_targets(torch.zeros(shape), y)
