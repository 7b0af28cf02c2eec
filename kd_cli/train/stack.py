"""Several multi-layer perceptrons of one shape as one network: weights stacked, products batched."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from kd_cli.data.inputs import Inputs
from kd_cli.device import reseed
from kd_cli.models.dropout import Dropout


class Stack:
    """The layers of S networks. Their weights become views of the stack, so that each network is always up to date."""

    def __init__(self, models: list[nn.Module]) -> None:
        self.layers: list[nn.Module] = list(models[0].train().children())
        self.products: list[tuple[Tensor, Tensor | None]] = []  # [S, in, out], [S, 1, out]
        self.parameters: list[Tensor] = []
        for same in zip(*(model.children() for model in models), strict=True):
            if isinstance(same[0], nn.Linear):
                # in × out, so that the gradient of the product has the layout of the weights
                weight = self._stack([layer.weight for layer in same], lambda w: w.t())
                bias = None if same[0].bias is None else self._stack([layer.bias for layer in same], lambda b: b[None])
                self.products.append((weight, bias))
        self.weights = [weight for weight, _ in self.products]

    def _stack(self, parameters: list[nn.Parameter], turn: Callable[[Tensor], Tensor]) -> Tensor:
        stacked = torch.stack([turn(parameter.detach()) for parameter in parameters])
        for parameter, slice in zip(parameters, stacked, strict=True):
            parameter.data = slice.t() if parameter.ndim > 1 else slice[0]
        self.parameters.append(stacked.requires_grad_())
        return stacked

    def __call__(self, images: Inputs, which: Tensor | None, seeds: list[int]) -> Tensor:
        """Return logits `[S, n, classes]` of images `[U·n, channels, height, width]`; member s takes part `which[s]` of
        U.
        """
        normalise, flatten, *rest = self.layers
        x: Tensor = flatten(normalise(images)).unflatten(0, (len(seeds), -1))
        x = x if which is None else x[which]
        masks, products = self._masks(x, which, seeds), iter(self.products)
        for layer in rest:
            if isinstance(layer, nn.Linear):
                weight, bias = next(products)
                x = torch.bmm(x, weight) if bias is None else torch.baddbmm(bias, x, weight)
            elif isinstance(layer, Dropout):
                x = x * next(masks) if layer.p else x
            else:
                x = layer(x)
        return x

    def _masks(self, x: Tensor, which: Tensor | None, seeds: list[int]) -> Iterator[Tensor]:
        """Yield what each dropout layer makes of ones, drawn in the order in which a network alone draws."""
        (n, width), kind, dtype = x.shape[1:], x.device.type, x.dtype
        drawn: list[list[Tensor]] = []
        dropouts: list[tuple[Dropout, Tensor]] = []
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                width = layer.out_features
                dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else dtype
            elif isinstance(layer, Dropout) and layer.p:
                dropouts.append((layer, torch.ones(n, width, device=x.device, dtype=dtype)))
        for seed in seeds if dropouts else ():
            reseed(x.device, seed)
            drawn.append([dropout(ones) for dropout, ones in dropouts])
        for masks in zip(*drawn, strict=True):
            yield torch.stack(masks) if which is None else torch.stack(masks)[which]
