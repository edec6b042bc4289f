"""Registers the models that are part of advbench."""

from __future__ import annotations

from collections.abc import Callable

from advbench.api import Model, hookimpl
from advbench_models.cifar10_densenet import Cifar10DenseNet
from advbench_models.dropout import MonteCarloDropout
from advbench_models.efficientnet_lite import EfficientNetLite
from advbench_models.ensemble import Ensemble
from advbench_models.fashion_mnist_cnn import FashionMnistCnn
from advbench_models.function import Function
from advbench_models.ibp import IntervalBounds
from advbench_models.mnist_cnn import MnistCnn
from advbench_models.mnist_cnn_robust import MnistCnnRobust
from advbench_models.pretrained.hf_model import HfModel
from advbench_models.pretrained.onnx_model import OnnxModel
from advbench_models.pretrained.robustbench_model import RobustBenchModel
from advbench_models.pretrained.timm_model import TimmModel
from advbench_models.random_features import RandomFeatures
from advbench_models.torch_module import TorchModule
from advbench_models.torchvision_model import TorchvisionModel


@hookimpl
def register_models(register: Callable[[type[Model]], None]) -> None:
    """Registers the models of this package."""
    register(MnistCnn)
    register(MnistCnnRobust)
    register(IntervalBounds)
    register(MonteCarloDropout)
    register(FashionMnistCnn)
    register(Cifar10DenseNet)
    register(RandomFeatures)
    register(TorchModule)
    register(Function)
    register(Ensemble)
    register(TorchvisionModel)
    register(EfficientNetLite)
    register(TimmModel)
    register(HfModel)
    register(RobustBenchModel)
    register(OnnxModel)
