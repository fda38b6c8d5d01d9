// Linear ops whose inputs and weights both fit a byte: on x86 processors with AVX-512 VNNI four products and their
// sum are one instruction, exact in 32 bits. The processor is asked at run time, so portable builds profit too;
// every other one computes the same integers with linear<float>.
#ifndef METRONN_BYTES_HPP
#define METRONN_BYTES_HPP

#include <array>
#include <map>

#include "metronn_linear.hpp"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(METRONN_WITHOUT_BYTE_DOT)
#define METRONN_BYTE_DOT 1
#include <immintrin.h>
#endif

namespace metronn {

inline bool has_byte_dot() {
#ifdef METRONN_BYTE_DOT
  static const bool has = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
                          __builtin_cpu_supports("avx512vnni") != 0;
  return has;
#else
  return false;
#endif
}

inline constexpr std::size_t byte_panel_outputs = 8;

// Weights [n_in][n_out] in [-128, 127] and bias [n_out] for inputs in [lowest, lowest + 255], rearranged for the
// kernel that this processor runs. Bytes hold x - lowest, so the sums start at bias + lowest * sum(weight).
//
// Four inputs of a position make a quad. Windows overlap, so most quads serve several positions: each is packed once
// for a block, when the first position needs it. Which inputs go together is chosen for the least work.
class byte_weights {
 public:
  static constexpr std::int32_t edge = -1;  // an element of a quad beyond the edge, or none (then its weight is zero)
  using quad = std::array<std::int32_t, 4>;

  template <typename B>
  byte_weights(const std::int8_t* weight, const B* bias, const window_map& window, std::size_t outputs,
               std::int32_t least)
      : map(window), n_in(window.taps * window.channels), n_out(outputs), lowest(least) {
    if (!has_byte_dot()) {
      plain = std::make_unique<const linear_weights<float>>(weight, bias, n_in, outputs);
      return;
    }
    panels = (outputs + byte_panel_outputs - 1) / byte_panel_outputs;
    choose(weight);
    start.resize(panels * byte_panel_outputs);
    for (std::size_t o = 0; o < outputs; ++o) {
      std::int64_t sum = cast<std::int64_t>(bias[o]);
      for (std::size_t i = 0; i < n_in; ++i) {
        sum += std::int64_t{lowest} * weight[i * outputs + o];
      }
      start[o] = static_cast<std::int32_t>(sum);
    }
  }

  std::size_t scratch_bytes() const { return quads.size() * block_events * sizeof(std::uint32_t); }

  const window_map& map;
  std::size_t n_in;
  std::size_t n_out;
  std::int32_t lowest;
  std::unique_ptr<const linear_weights<float>> plain;  // null where bytes are used
  std::size_t panels = 0;
  std::size_t per_position = 0;
  std::vector<quad> quads;             // elements of x, in the order of first use
  std::vector<std::uint32_t> used;     // [position][quad of the position]: which quad
  std::vector<std::uint32_t> ready;    // [position]: quads that positions up to this one need
  std::vector<std::size_t> first;      // [panel]: where its entries begin
  std::vector<std::uint32_t> entry;    // quads of a position that have a weight in the panel
  std::vector<std::uint32_t> packed;   // [entry][output of the panel]: four weights
  std::vector<std::int32_t> start;     // [output]

 private:
  // Inputs in runs of `run`, each cut into quads.
  std::vector<quad> groups(std::size_t run) const {
    std::vector<quad> found;
    for (std::size_t from = 0; from < n_in; from += run) {
      for (std::size_t i = 0; i < run; i += 4) {
        quad inputs{edge, edge, edge, edge};
        for (std::size_t j = 0; j < 4 && i + j < run; ++j) {
          inputs[j] = static_cast<std::int32_t>(from + i + j);
        }
        found.push_back(inputs);
      }
    }
    return found;
  }

  void choose(const std::int8_t* weight) {
    std::size_t least_cost = 0;
    for (const std::size_t run : {n_in, map.channels, map.inner_taps * map.channels}) {
      byte_weights candidate(map, n_in, n_out, panels);
      candidate.arrange(groups(run), weight);
      const std::size_t cost = candidate.quads.size() * 20 + map.positions * candidate.packed.size() * 4;
      if (least_cost == 0 || cost < least_cost) {
        least_cost = cost;
        quads.swap(candidate.quads);
        used.swap(candidate.used);
        ready.swap(candidate.ready);
        first.swap(candidate.first);
        entry.swap(candidate.entry);
        packed.swap(candidate.packed);
        per_position = candidate.per_position;
      }
    }
  }

  byte_weights(const window_map& window, std::size_t inputs, std::size_t outputs, std::size_t count)
      : map(window), n_in(inputs), n_out(outputs), lowest(0), panels(count) {}

  void arrange(const std::vector<quad>& grouped, const std::int8_t* weight) {
    per_position = grouped.size();
    std::map<quad, std::uint32_t> known;
    for (std::size_t r = 0; r < map.positions; ++r) {
      for (const quad& inputs : grouped) {
        quad elements{edge, edge, edge, edge};
        for (std::size_t j = 0; j < 4; ++j) {
          if (inputs[j] != edge) {
            const auto i = static_cast<std::size_t>(inputs[j]);
            const std::int32_t pixel = map.pixel[r * map.taps + i / map.channels];
            const auto element = static_cast<std::size_t>(pixel) * map.channels + i % map.channels;
            elements[j] = pixel < 0 ? edge : static_cast<std::int32_t>(element);
          }
        }
        const auto found = known.emplace(elements, static_cast<std::uint32_t>(quads.size()));
        if (found.second) {
          quads.push_back(elements);
        }
        used.push_back(found.first->second);
      }
      ready.push_back(static_cast<std::uint32_t>(quads.size()));
    }
    for (std::size_t p = 0; p < panels; ++p) {
      first.push_back(entry.size());
      for (std::size_t q = 0; q < grouped.size(); ++q) {
        std::array<std::uint32_t, byte_panel_outputs> four{};
        bool any = false;
        for (std::size_t o = 0; o < byte_panel_outputs && p * byte_panel_outputs + o < n_out; ++o) {
          for (std::size_t j = 0; j < 4; ++j) {
            if (grouped[q][j] != edge) {
              const std::size_t i = static_cast<std::size_t>(grouped[q][j]);
              const std::int8_t w = weight[i * n_out + p * byte_panel_outputs + o];
              four[o] |= static_cast<std::uint32_t>(static_cast<std::uint8_t>(w)) << (8 * j);
              any = any || w != 0;
            }
          }
        }
        if (any) {
          entry.push_back(static_cast<std::uint32_t>(q));
          packed.insert(packed.end(), four.begin(), four.end());
        }
      }
    }
    first.push_back(entry.size());
  }
};

#ifdef METRONN_BYTE_DOT
#define METRONN_BYTE_TARGET __attribute__((target("avx512f,avx512bw,avx512vnni")))

// The unmasked intrinsic makes GCC 12 warn of its own header.
METRONN_BYTE_TARGET inline __m512i reordered(__m512i order, __m512i bytes) {
  return _mm512_maskz_permutexvar_epi32(0xffff, order, bytes);
}

// Four rows of bytes, less `lowest`, interleaved: four bytes for each event.
METRONN_BYTE_TARGET inline void byte_quad(const void* const* from, std::int32_t lowest, std::uint32_t* to) {
  // Interleaving works in lanes of 16 bytes; this order beforehand puts the events in order afterwards.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i least = _mm512_set1_epi8(static_cast<char>(lowest));
  const __m512i a = reordered(order, _mm512_sub_epi8(_mm512_loadu_si512(from[0]), least));
  const __m512i b = reordered(order, _mm512_sub_epi8(_mm512_loadu_si512(from[1]), least));
  const __m512i c = reordered(order, _mm512_sub_epi8(_mm512_loadu_si512(from[2]), least));
  const __m512i d = reordered(order, _mm512_sub_epi8(_mm512_loadu_si512(from[3]), least));
  const __m512i low_ab = _mm512_unpacklo_epi8(a, b);
  const __m512i high_ab = _mm512_unpackhi_epi8(a, b);
  const __m512i low_cd = _mm512_unpacklo_epi8(c, d);
  const __m512i high_cd = _mm512_unpackhi_epi8(c, d);
  _mm512_storeu_si512(to, _mm512_unpacklo_epi16(low_ab, low_cd));
  _mm512_storeu_si512(to + 16, _mm512_unpackhi_epi16(low_ab, low_cd));
  _mm512_storeu_si512(to + 32, _mm512_unpacklo_epi16(high_ab, high_cd));
  _mm512_storeu_si512(to + 48, _mm512_unpackhi_epi16(high_ab, high_cd));
}

template <typename X>
METRONN_BYTE_TARGET inline void pack_quads(rows<X> x, const byte_weights& weights, X fill, std::size_t from,
                                           std::size_t to, std::uint32_t* scratch) {
  X outside[block_events];
  fill_row(fill, outside);
  for (std::size_t q = from; q < to; ++q) {
    const X* source[4];
    for (std::size_t j = 0; j < 4; ++j) {
      const std::int32_t element = weights.quads[q][j];
      source[j] = element == byte_weights::edge ? outside : x[static_cast<std::size_t>(element)];
    }
    std::uint32_t* packed = scratch + q * block_events;
    if constexpr (sizeof(X) == 1) {
      const void* const raw[4] = {source[0], source[1], source[2], source[3]};
      byte_quad(raw, weights.lowest, packed);
    } else {
      for (std::size_t e = 0; e < block_events; ++e) {
        std::uint32_t four = 0;
        for (std::size_t j = 0; j < 4; ++j) {
          four |= static_cast<std::uint32_t>(source[j][e] - weights.lowest) << (8 * j);
        }
        packed[e] = four;
      }
    }
  }
}

// One panel of one position: 8 outputs x 32 events in registers, four inputs at a time.
template <typename Y>
METRONN_BYTE_TARGET inline void byte_panel(const std::uint32_t* x, const std::uint32_t* used,
                                           const byte_weights& weights, std::size_t panel, rows<Y> y,
                                           std::size_t target) {
  const std::size_t begin = weights.first[panel];
  const std::size_t end = weights.first[panel + 1];
  const std::size_t o_first = panel * byte_panel_outputs;
  const std::uint32_t* packed = weights.packed.data();
  for (std::size_t group = 0; group < block_events; group += 32) {
    __m512i sum[byte_panel_outputs][2];
#pragma GCC unroll 8
    for (std::size_t o = 0; o < byte_panel_outputs; ++o) {
      sum[o][0] = sum[o][1] = _mm512_set1_epi32(weights.start[o_first + o]);
    }
    for (std::size_t n = begin; n < end; ++n) {
      const std::uint32_t* quad = x + used[weights.entry[n]] * block_events + group;
      const __m512i x0 = _mm512_loadu_si512(quad);
      const __m512i x1 = _mm512_loadu_si512(quad + 16);
#pragma GCC unroll 8
      for (std::size_t o = 0; o < byte_panel_outputs; ++o) {
        const __m512i w = _mm512_set1_epi32(static_cast<std::int32_t>(packed[n * byte_panel_outputs + o]));
        sum[o][0] = _mm512_dpbusd_epi32(sum[o][0], x0, w);
        sum[o][1] = _mm512_dpbusd_epi32(sum[o][1], x1, w);
      }
    }
#pragma GCC unroll 8
    for (std::size_t o = 0; o < byte_panel_outputs; ++o) {
      if (o_first + o == weights.n_out) {
        break;
      }
      Y* to = y[target + o_first + o] + group;
      if constexpr (sizeof(Y) == 4) {
        _mm512_storeu_si512(to, sum[o][0]);
        _mm512_storeu_si512(to + 16, sum[o][1]);
      } else {
        std::int32_t results[32];
        _mm512_storeu_si512(results, sum[o][0]);
        _mm512_storeu_si512(results + 16, sum[o][1]);
        for (std::size_t e = 0; e < 32; ++e) {
          to[e] = cast<Y>(results[e]);
        }
      }
    }
  }
}
#endif

// As `linear` without shifts. Tiles are computed in order, from 0 on: `scratch` keeps the quads packed so far. Without
// byte instructions it has room for one row of inputs as floats.
template <typename X, typename Y>
inline void linear_bytes(rows<X> x, X fill, const byte_weights& weights, std::size_t begin, std::size_t end,
                         std::byte* plain_scratch, std::byte* scratch, rows<Y> y) {
  if (weights.plain != nullptr) {
    linear<float>(x, {nullptr, 0}, fill, weights.map, *weights.plain, begin, end,
                  reinterpret_cast<float*>(plain_scratch), y);
    return;
  }
#ifdef METRONN_BYTE_DOT
  auto* packed = reinterpret_cast<std::uint32_t*>(scratch);
  pack_quads(x, weights, fill, begin == 0 ? 0 : weights.ready[begin - 1], weights.ready[end - 1], packed);
  for (std::size_t r = begin; r < end; ++r) {
    const std::uint32_t* used = weights.used.data() + r * weights.per_position;
    for (std::size_t p = 0; p < weights.panels; ++p) {
      byte_panel(packed, used, weights, p, y, r * weights.n_out);
    }
  }
#else
  (void)scratch;
#endif
}

}  // namespace metronn

#endif  // METRONN_BYTES_HPP
