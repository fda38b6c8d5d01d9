// Linear ops in any type: panels of a few outputs, in registers where the type is a floating-point one.
#ifndef METRONN_LINEAR_HPP
#define METRONN_LINEAR_HPP

#include "metronn_window.hpp"

namespace metronn {

#if defined(__AVX512F__)
inline constexpr std::size_t vector_bytes = 64;
inline constexpr std::size_t panel_outputs = 8;
#elif defined(__AVX__)
inline constexpr std::size_t vector_bytes = 32;
inline constexpr std::size_t panel_outputs = 4;
#else
inline constexpr std::size_t vector_bytes = 16;
inline constexpr std::size_t panel_outputs = 4;
#endif

// Weights [n_in][n_out] and bias [n_out] of a Linear op, rearranged once for the kernel: panels of a few outputs, or
// of one where most weights are zero, and in each panel only the inputs that have a weight there,
// [input][output of the panel]; outputs that fill up the last panel have weight zero.
template <typename C>
class linear_weights {
 public:
  template <typename W, typename B>
  linear_weights(const W* weights, const B* biases, std::size_t inputs, std::size_t outputs)
      : n_in(inputs), n_out(outputs) {
    std::size_t used = 0;
    for (std::size_t k = 0; k < n_in * n_out; ++k) {
      used += is_zero(weights[k]) ? 0 : 1;
    }
    width = used * 4 < n_in * n_out ? 1 : panel_outputs;
    panels = (n_out + width - 1) / width;
    bias.resize(panels * width);
    for (std::size_t o = 0; o < n_out; ++o) {
      bias[o] = cast<C>(biases[o]);
    }
    for (std::size_t p = 0; p < panels; ++p) {
      first.push_back(input.size());
      const std::size_t last = p * width + width < n_out ? p * width + width : n_out;
      for (std::size_t i = 0; i < n_in; ++i) {
        bool any = false;
        for (std::size_t o = p * width; o < last; ++o) {
          any = any || !is_zero(weights[i * n_out + o]);
        }
        if (!any) {
          continue;
        }
        input.push_back(static_cast<std::uint32_t>(i));
        for (std::size_t o = p * width; o < p * width + width; ++o) {
          weight.push_back(o < last ? cast<C>(weights[i * n_out + o]) : C{});
        }
      }
    }
    first.push_back(input.size());
  }
  std::size_t n_in;
  std::size_t n_out;
  std::size_t width;
  std::size_t panels;
  std::vector<std::size_t> first;    // [panel]: where its inputs begin
  std::vector<std::uint32_t> input;  // the inputs of all panels
  std::vector<C> weight;
  std::vector<C> bias;
};

// One panel of `Width` outputs, the first `outputs` of which exist, for one row of inputs.
template <std::size_t Width, typename C, typename Y>
inline void linear_panel(const C* x, const linear_weights<C>& weights, std::size_t panel, std::size_t outputs,
                         rows<Y> y, std::size_t target) {
  const std::uint32_t* input = weights.input.data() + weights.first[panel];
  const C* weight = weights.weight.data() + weights.first[panel] * Width;
  const C* bias = weights.bias.data() + panel * Width;
  const std::size_t count = weights.first[panel + 1] - weights.first[panel];
  if constexpr (std::is_floating_point_v<C>) {
    typedef C vector __attribute__((vector_size(vector_bytes)));
    constexpr std::size_t lanes = vector_bytes / sizeof(C);
    constexpr std::size_t parts = Width == 1 ? 4 : 2;
    for (std::size_t group = 0; group < block_events; group += parts * lanes) {
      vector sum[Width][parts];
#pragma GCC unroll 8
      for (std::size_t o = 0; o < Width; ++o) {
#pragma GCC unroll 4
        for (std::size_t v = 0; v < parts; ++v) {
          sum[o][v] = vector{} + bias[o];
        }
      }
      for (std::size_t i = 0; i < count; ++i) {
        vector row[parts];
        std::memcpy(&row, x + input[i] * block_events + group, sizeof row);
#pragma GCC unroll 8
        for (std::size_t o = 0; o < Width; ++o) {
          const C w = weight[i * Width + o];
#pragma GCC unroll 4
          for (std::size_t v = 0; v < parts; ++v) {
            sum[o][v] += row[v] * w;
          }
        }
      }
      C result[Width][parts * lanes];
      std::memcpy(&result, &sum, sizeof sum);
      for (std::size_t o = 0; o < outputs; ++o) {
        Y* to = y[target + o] + group;
        for (std::size_t e = 0; e < parts * lanes; ++e) {
          to[e] = static_cast<Y>(result[o][e]);
        }
      }
    }
  } else {
    for (std::size_t o = 0; o < outputs; ++o) {
      C sum[block_events];
      fill_row(bias[o], sum);
      for (std::size_t i = 0; i < count; ++i) {
        const C w = weight[i * Width + o];
        const C* from = x + input[i] * block_events;
        for (std::size_t e = 0; e < block_events; ++e) {
          sum[e] = sum[e] + from[e] * w;
        }
      }
      Y* to = y[target + o];
      for (std::size_t e = 0; e < block_events; ++e) {
        to[e] = cast<Y>(sum[e]);
      }
    }
  }
}

// y[r][o] = sum_i x[i of position r] * 2**shift * weight[i][o] + bias[o] for positions begin to end; the shift is by
// element of x, `fill` what the edge holds; `packed` has room for one row of inputs.
template <typename C, typename X, typename Y>
inline void linear(rows<X> x, const per_element<std::int32_t>& shift, X fill, const window_map& map,
                   const linear_weights<C>& weights, std::size_t begin, std::size_t end, C* packed, rows<Y> y) {
  for (std::size_t r = begin; r < end; ++r) {
    C* row = packed;
    for (std::size_t t = 0; t < map.taps; ++t) {
      const std::int32_t pixel = map.pixel[r * map.taps + t];
      for (std::size_t c = 0; c < map.channels; ++c, row += block_events) {
        const std::size_t k = static_cast<std::size_t>(pixel) * map.channels + c;
        if (pixel < 0) {
          fill_row(cast<C>(fill), row);
        } else {
          load_row(x[k], shift(k), row);
        }
      }
    }
    for (std::size_t p = 0; p < weights.panels; ++p) {
      const std::size_t o = p * weights.width;
      if (weights.width == 1) {
        linear_panel<1>(packed, weights, p, 1, y, r * weights.n_out + o);
      } else {
        const std::size_t outputs = weights.n_out - o < panel_outputs ? weights.n_out - o : panel_outputs;
        linear_panel<panel_outputs>(packed, weights, p, outputs, y, r * weights.n_out + o);
      }
    }
  }
}

}  // namespace metronn

#endif  // METRONN_LINEAR_HPP
