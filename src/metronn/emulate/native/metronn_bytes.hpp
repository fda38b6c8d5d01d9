// Linear ops whose inputs and weights both fit a byte: on x86 processors with AVX-512 VNNI four products and their
// sum are one instruction, exact in 32 bits. The processor is asked at run time, so portable builds profit too;
// every other one computes the same integers with linear<float>.
#ifndef METRONN_BYTES_HPP
#define METRONN_BYTES_HPP

#include "metronn_runtime.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(METRONN_WITHOUT_BYTE_DOT)
#define METRONN_BYTE_DOT 1
#include <immintrin.h>
#endif

namespace metronn {

inline bool has_byte_dot() {
#ifdef METRONN_BYTE_DOT
  static const bool has = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512vnni") != 0;
  return has;
#else
  return false;
#endif
}

inline constexpr std::size_t byte_panel_outputs = 8;

// Weights [n_in][n_out] in [-128, 127] and bias [n_out] for inputs in [lowest, lowest + 255], rearranged for the
// kernel that this processor runs. Bytes hold x - lowest, so the sums start at bias + lowest * sum(weight).
class byte_weights {
 public:
  template <typename B>
  byte_weights(const std::int8_t* weight, const B* bias, std::size_t inputs, std::size_t outputs, std::int32_t lowest)
      : n_in(inputs),
        n_out(outputs),
        quads((inputs + 3) / 4),
        panels((outputs + byte_panel_outputs - 1) / byte_panel_outputs),
        lowest(lowest) {
    if (!has_byte_dot()) {
      plain = std::make_unique<const linear_weights<float>>(weight, bias, inputs, outputs);
      return;
    }
    packed.resize(panels * quads * byte_panel_outputs);
    start.resize(panels * byte_panel_outputs);
    for (std::size_t o = 0; o < outputs; ++o) {
      std::int64_t sum = cast<std::int64_t>(bias[o]);
      for (std::size_t i = 0; i < inputs; ++i) {
        const std::int8_t w = weight[i * outputs + o];
        sum += std::int64_t{lowest} * w;
        const std::size_t panel = o / byte_panel_outputs;
        packed[(panel * quads + i / 4) * byte_panel_outputs + o % byte_panel_outputs] |=
            static_cast<std::uint32_t>(static_cast<std::uint8_t>(w)) << (8 * (i % 4));
      }
      start[o] = static_cast<std::int32_t>(sum);
    }
  }
  const std::size_t n_in;
  const std::size_t n_out;
  const std::size_t quads;
  const std::size_t panels;
  const std::int32_t lowest;
  std::unique_ptr<const linear_weights<float>> plain;  // null where bytes are used
  std::vector<std::uint32_t> packed;                   // [panel][quad of inputs][output of the panel]: four weights
  std::vector<std::int32_t> start;
};

#ifdef METRONN_BYTE_DOT
// One panel: 8 outputs x 32 events in registers, four inputs at a time.
__attribute__((target("avx512f,avx512vnni"))) inline void byte_panel(const std::uint32_t* x,
                                                                     const std::uint32_t* weight,
                                                                     const std::int32_t* start, std::size_t quads,
                                                                     std::size_t outputs, std::int32_t* y) {
  for (std::size_t group = 0; group < block_events; group += 32) {
    __m512i sum[byte_panel_outputs][2];
#pragma GCC unroll 8
    for (std::size_t o = 0; o < byte_panel_outputs; ++o) {
      sum[o][0] = sum[o][1] = _mm512_set1_epi32(start[o]);
    }
    for (std::size_t q = 0; q < quads; ++q) {
      const __m512i x0 = _mm512_loadu_si512(x + q * block_events + group);
      const __m512i x1 = _mm512_loadu_si512(x + q * block_events + group + 16);
#pragma GCC unroll 8
      for (std::size_t o = 0; o < byte_panel_outputs; ++o) {
        const __m512i w = _mm512_set1_epi32(static_cast<std::int32_t>(weight[q * byte_panel_outputs + o]));
        sum[o][0] = _mm512_dpbusd_epi32(sum[o][0], x0, w);
        sum[o][1] = _mm512_dpbusd_epi32(sum[o][1], x1, w);
      }
    }
#pragma GCC unroll 8
    for (std::size_t o = 0; o < byte_panel_outputs; ++o) {
      if (o == outputs) {
        break;
      }
      _mm512_storeu_si512(y + o * block_events + group, sum[o][0]);
      _mm512_storeu_si512(y + o * block_events + group + 16, sum[o][1]);
    }
  }
}
#endif

// As `linear` without shifts; `scratch` holds one row of x as floats or as bytes.
inline void linear_bytes(const std::int32_t* x, const byte_weights& weights, std::size_t rows, std::byte* scratch,
                         std::int32_t* y) {
  if (weights.plain != nullptr) {
    linear<float>(x, {nullptr, 0}, *weights.plain, rows, reinterpret_cast<float*>(scratch), y);
    return;
  }
#ifdef METRONN_BYTE_DOT
  auto* packed = reinterpret_cast<std::uint32_t*>(scratch);
  for (std::size_t r = 0; r < rows; ++r) {
    const std::int32_t* row = x + r * weights.n_in * block_events;
    for (std::size_t q = 0; q < weights.quads; ++q) {
      std::uint32_t* quad = packed + q * block_events;
      for (std::size_t e = 0; e < block_events; ++e) {
        quad[e] = 0;
      }
      for (std::size_t i = 4 * q; i < 4 * q + 4 && i < weights.n_in; ++i) {
        for (std::size_t e = 0; e < block_events; ++e) {
          quad[e] |= static_cast<std::uint32_t>(row[i * block_events + e] - weights.lowest) << (8 * (i % 4));
        }
      }
    }
    for (std::size_t p = 0; p < weights.panels; ++p) {
      const std::size_t first = p * byte_panel_outputs;
      byte_panel(packed, weights.packed.data() + p * weights.quads * byte_panel_outputs, weights.start.data() + first,
                 weights.quads, weights.n_out - first, y + (r * weights.n_out + first) * block_events);
    }
  }
#endif
}

}  // namespace metronn

#endif  // METRONN_BYTES_HPP
