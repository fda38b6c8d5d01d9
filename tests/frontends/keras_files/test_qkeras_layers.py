"""Layers of QKeras, from files written by hand: quantized weights, folded normalization, pooling, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from qkeras_files import from_archive, from_json, layer, loaded

from metronn.errors import ModelError
from metronn.model.graph import RealGraph, RealLinear
from metronn.model.reference import run_reference

Values = npt.NDArray[np.float64]
BITS4 = "quantized_bits(4,0,alpha=1)"
BITS8 = {"class_name": "quantized_bits", "config": {"bits": 8, "integer": 1, "alpha": 1.0}}
AUTO = "quantized_bits(4,0,alpha='auto')"
BOTH_MODES = ("ema_stats_folding", "batch_stats_folding")


def rounded(x: npt.ArrayLike, bits: int, integer: int) -> Values:
    step = 2.0 ** (integer - bits + 1)
    return np.clip(np.rint(np.asarray(x, np.float32) / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step


def draw(*shape: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32).astype(np.float64)


def output(graph: RealGraph, x: Values) -> Values:
    (y,) = run_reference(graph, {graph.inputs[0].name: x}).values()
    return y


def matrices(graph: RealGraph) -> list[RealLinear]:
    return [node.op for node in graph.nodes if isinstance(node.op, RealLinear)]


def test_dense_quantizes_kernel_bias_and_result(tmp_path: Path) -> None:
    kernel, bias, x = draw(5, 3), draw(3, seed=1), np.rint(draw(20, 5, seed=2) * 8) / 4
    entry = layer(
        "QDense", "d", units=3, kernel_quantizer=BITS4, bias_quantizer=BITS8, activation="quantized_relu(4,1)"
    )
    graph = from_json(tmp_path, [5], [entry], {"d": {"kernel": kernel, "bias": bias}})
    sums = x @ rounded(kernel, 4, 0) + rounded(bias, 8, 1)
    assert np.array_equal(output(graph, x), np.clip(np.rint(sums * 8), 0, 15) / 8)
    assert graph.quantized
    assert matrices(graph)[0].step is None
    assert dict(graph.tensors) == {"d": graph.outputs[0][1]}


def test_automatic_scales_are_steps_of_the_columns(tmp_path: Path) -> None:
    kernel, x = draw(5, 3), draw(20, 5, seed=2)
    entry = layer("QDense", "d", units=3, kernel_quantizer=AUTO, use_bias=False)
    (matrix,) = matrices(loaded(tmp_path, [5], [entry], {"d": {"kernel": kernel}}))
    expected = np.float32(2) * np.abs(kernel).max(axis=0).astype(np.float32) / np.float32(14)
    assert matrix.step is not None
    assert matrix.step.array.tolist() == expected.astype(float).tolist()
    codes = matrix.weight.array / matrix.step.array
    assert np.array_equal(codes, np.rint(codes))
    assert np.abs(codes).max() == 7
    assert np.abs(x @ matrix.weight.array - x @ kernel).max() < 5 * expected.max() / 2


def folding(seed: int, channels: int) -> dict[str, Values]:
    return {
        "gamma": draw(channels, seed=seed) + 1.5,
        "beta": draw(channels, seed=seed + 1),
        "moving_mean": draw(channels, seed=seed + 2),
        "moving_variance": draw(channels, seed=seed + 3) + 1.5,
    }


def folded(stats: dict[str, Values], bias: npt.ArrayLike) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the factor of the kernel and the folded bias, in float32."""
    f = {name: values.astype(np.float32) for name, values in stats.items()}
    inverse = np.float32(1) / np.sqrt(f["moving_variance"] + np.float32(1e-3)) * f["gamma"]
    return inverse, inverse * (np.asarray(bias, np.float32) - f["moving_mean"]) + f["beta"]


@pytest.mark.parametrize("mode", BOTH_MODES)
@pytest.mark.parametrize("use_bias", [True, False])
def test_normalization_is_folded_before_the_quantizers(tmp_path: Path, mode: str, use_bias: bool) -> None:
    kernel, bias, stats, x = draw(5, 3), draw(3, seed=1), folding(5, 3), np.rint(draw(20, 5, seed=2) * 8)
    own = {"units": 3, "use_bias": use_bias, "folding_mode": mode, "epsilon": 1e-3}
    entry = layer("QDenseBatchnorm", "d", **own, kernel_quantizer=BITS4, bias_quantizer=BITS8)
    weights = {"kernel": kernel, **({"bias": bias} if use_bias else {}), **stats, "iteration": np.asarray(7)}
    graph = loaded(tmp_path, [5], [entry], {"d": weights})
    factor, shift = folded(stats, bias if use_bias else 0)
    expected = x @ rounded(factor * kernel.astype(np.float32), 4, 0) + rounded(shift, 8, 1)
    assert np.array_equal(output(graph, x), expected)


def test_folded_convolutions_read_both_layouts(tmp_path: Path) -> None:
    kernel, stats, x = draw(1, 1, 2, 3), folding(5, 6), np.rint(draw(4, 2, 2, 2, seed=2) * 8)
    own = {"kernel_size": [1, 1], "depth_multiplier": 3, "use_bias": False, "epsilon": 1e-3}
    entry = layer("QDepthwiseConv2DBatchnorm", "d", **own, depthwise_quantizer=BITS4, bias_quantizer=BITS8)
    old = loaded(tmp_path, [2, 2, 2], [entry], {"d": {"depthwise_kernel": kernel, **stats}})
    inner = {str(k): values for k, values in enumerate(stats.values())}
    for own_arrays in ({"0": kernel}, {"0": kernel, "1": np.asarray(3), "iteration": np.asarray(3)}):
        groups = {"q_depthwise_conv2d_batchnorm": own_arrays, "q_depthwise_conv2d_batchnorm/batchnorm": inner}
        new = from_archive(tmp_path, [2, 2, 2], [entry], groups)
        assert np.array_equal(output(new, x), output(old, x))
    factor, shift = folded(stats, 0)
    weight = rounded(factor.reshape(2, 3) * kernel[0, 0].astype(np.float32), 4, 0)
    expected = (x[..., np.newaxis] * weight).reshape(4, 2, 2, 6) + rounded(shift, 8, 1)
    assert np.array_equal(output(old, x), expected)


def test_missing_statistics_are_told(tmp_path: Path) -> None:
    entry = layer("QDenseBatchnorm", "d", units=3, kernel_quantizer=BITS4)
    with pytest.raises(ModelError, match="asks for 6 arrays .kernel, bias, gamma, beta, moving_mean, moving_variance"):
        loaded(tmp_path, [5], [entry], {"d": {"kernel": draw(5, 3), "bias": draw(3)}})


def test_normalization_quantizes_every_array(tmp_path: Path) -> None:
    stats, x = folding(5, 3), np.rint(draw(4, 3, seed=2) * 8)
    config = {"gamma_quantizer": BITS4, "beta_quantizer": BITS8, "mean_quantizer": BITS4, "epsilon": 0.5}
    entry = layer("QBatchNormalization", "n", axis=[1], variance_quantizer="quantized_relu_po2(4)", **config)
    graph = loaded(tmp_path, [3], [entry], {"n": stats})
    variance = np.exp2(np.rint(np.log2(stats["moving_variance"]))).astype(np.float32)
    gamma, beta = rounded(stats["gamma"], 4, 0).astype(np.float32), rounded(stats["beta"], 8, 1).astype(np.float32)
    inverse = np.float32(1) / np.sqrt(variance + np.float32(0.5)) * gamma
    shift = beta - rounded(stats["moving_mean"], 4, 0).astype(np.float32) * inverse
    assert np.array_equal(output(graph, x), x * inverse.astype(float) + shift.astype(float))


def test_normalization_may_quantize_the_inverse(tmp_path: Path) -> None:
    stats, x = folding(5, 3), np.rint(draw(4, 3, seed=2) * 8)
    names = ("gamma", "beta", "mean", "variance")
    none: dict[str, Any] = {f"{name}_quantizer": None for name in names}
    entry = layer("QBatchNormalization", "n", axis=[1], inverse_quantizer=BITS8, **none)
    graph = loaded(tmp_path, [3], [entry], {"n": stats})
    factor = rounded(folded(stats, 0)[0], 8, 1).astype(np.float32)
    shift = stats["beta"].astype(np.float32) - stats["moving_mean"].astype(np.float32) * factor
    assert np.array_equal(output(graph, x), x * factor.astype(float) + shift.astype(float))


def test_average_is_the_sum_times_the_quantized_inverse(tmp_path: Path) -> None:
    x = np.rint(draw(4, 6, 6, 2) * 8)
    entry = layer("QAveragePooling2D", "p", pool_size=[3, 3], average_quantizer=BITS8, activation="quantized_bits(6,3)")
    graph = loaded(tmp_path, [6, 6, 2], [entry], {})
    sums = x.reshape(4, 2, 3, 2, 3, 2).sum(axis=(2, 4))
    assert np.array_equal(output(graph, x), rounded(sums * rounded(1 / 9, 8, 1), 6, 3))


def test_windows_cut_by_padding_are_averaged_over_what_is_inside(tmp_path: Path) -> None:
    x = np.rint(draw(4, 3, 3, 1) * 8)
    entry = layer("QAveragePooling2D", "p", pool_size=[2, 2], padding="same", average_quantizer="quantized_bits(3,0)")
    y = output(loaded(tmp_path, [3, 3, 1], [entry], {}), x)
    assert np.array_equal(y[:, 0, 0], x[:, :2, :2].sum(axis=(1, 2)) / 4)
    assert np.array_equal(y[:, 1, 1], x[:, 2, 2])


def test_global_average(tmp_path: Path) -> None:
    x = np.rint(draw(4, 3, 2, 2) * 8)
    entry = layer("QGlobalAveragePooling2D", "p", average_quantizer=BITS4)
    y = output(loaded(tmp_path, [3, 2, 2], [entry], {}), x)
    assert np.array_equal(y, x.sum(axis=(1, 2)) * 0.125)  # 1 / 6 on steps of 1 / 8


def test_separable_convolution_has_a_step_for_either_matrix(tmp_path: Path) -> None:
    depthwise, pointwise = draw(2, 2, 3, 2), draw(1, 1, 6, 4, seed=1)
    config = {"filters": 4, "kernel_size": [2, 2], "depth_multiplier": 2, "use_bias": False}
    entry = layer("QSeparableConv2D", "s", **config, depthwise_quantizer=AUTO, pointwise_quantizer=AUTO)
    arrays = {"depthwise_kernel": depthwise, "pointwise_kernel": pointwise}
    first, second = matrices(loaded(tmp_path, [4, 4, 3], [entry], {"s": arrays}))
    scales = [
        np.abs(k).astype(np.float32).max(axis=(0, 1, 2)) * np.float32(2) / np.float32(14) for k in arrays.values()
    ]
    assert first.step is not None
    assert second.step is not None
    assert first.step.array.tolist() == scales[0].astype(float).tolist() * 3
    assert second.step.array.tolist() == scales[1].astype(float).tolist()
    for matrix in (first, second):
        codes = matrix.weight.array / matrix.step.array  # type: ignore[union-attr]
        assert np.array_equal(codes, np.rint(codes))


def test_scales_within_an_output_must_be_powers_of_two(tmp_path: Path) -> None:
    weights = {"d": {"kernel": draw(5, 3)}}
    for alpha in ("auto_po2", "auto"):
        text = f"quantized_bits(4,0,alpha='{alpha}',scale_axis=0)"
        entry = layer("QDense", "d", units=3, use_bias=False, kernel_quantizer=text)
        if alpha == "auto":
            with pytest.raises(
                ModelError, match=r"d \(QDense\): kernel_quantizer: the scale differs within one output"
            ):
                loaded(tmp_path, [5], [entry], weights)
        else:
            step = matrices(loaded(tmp_path, [5], [entry], weights))[0].step
            assert step is not None
            assert (np.frexp(step.array)[0] == 0.5).all()


def test_activations_are_those_of_qkeras_first(tmp_path: Path) -> None:
    x = np.arange(-12, 13)[np.newaxis] / 4.0
    half = np.clip(0.5 * x + 0.5, 0, 1)
    names = {"hard_sigmoid": half, "binary_tanh": 2 * np.rint(half) - 1, "relu": np.maximum(x, 0), "linear": x}
    for name, expected in names.items():
        graph = loaded(tmp_path, [25], [layer("QActivation", "a", activation=name)], {})
        assert np.array_equal(output(graph, x), expected), name
    plain = loaded(tmp_path, [25], [layer("Activation", "a", activation="hard_sigmoid")], {})
    assert np.allclose(output(plain, x), np.clip(0.2 * x + 0.5, 0, 1))  # floats of Keras: 0.2 is no binary fraction


def test_layers_of_keras_may_have_quantizers_as_activation(tmp_path: Path) -> None:
    kernel, x = np.rint(draw(5, 3) * 8), np.rint(draw(4, 5, seed=1) * 8)
    entry = layer("Dense", "d", units=3, use_bias=False, activation=BITS8)
    graph = loaded(tmp_path, [5], [entry], {"d": {"kernel": kernel}})
    assert np.array_equal(output(graph, x), rounded(x @ kernel, 8, 1))


def test_everything_unsupported_is_listed(tmp_path: Path) -> None:
    layers = [
        layer("QActivation", "a", activation="bernoulli()"),
        layer("QActivation", "b", activation="quantized_bits(4,alpha='auto')"),
        layer("QActivation", "c", activation="swoosh"),
        layer("QDense", "d", units=3, kernel_quantizer="bernoulli(alpha=1)"),
        layer("QLSTM", "e", units=3),
    ]
    with pytest.raises(ModelError, match="5 unsupported layers") as raised:
        loaded(tmp_path, [5], layers, {})
    lines = raised.value.message.splitlines()[1:6]
    assert [line.strip() for line in lines] == [
        "a: QActivation with bernoulli (it draws random numbers, at inference too)",
        "b: QActivation with quantized_bits with alpha auto (the scale would depend on the batch)",
        "c: QActivation with activation swoosh",
        "d: QDense with bernoulli (it draws random numbers, at inference too)",
        "e: QLSTM (a recurrent network, which metronn does not read yet)",
    ]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kernel_quantizer": "quantized_bits(bit=4)"}, "argument bit is not known"),
        ({"kernel_quantizer": "quantized_bytes(4)"}, "quantizer 'quantized_bytes.4.' is not known"),
        ({"activation": "quantized_relu(4,negative_slope=0.3)"}, "negative_slope is 0.3"),
        ({"mask": [[1, 0]]}, "has a mask in the configuration"),
    ],
)
def test_damaged_quantizers_are_told_with_the_layer(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    entry = layer("QConv2D", "conv", filters=1, kernel_size=[1, 1], use_bias=False, **config)
    with pytest.raises(ModelError, match=rf"conv[^\n]*{message}"):
        loaded(tmp_path, [2, 2, 1], [entry], {"conv": {"kernel": draw(1, 1, 1, 1)}})
