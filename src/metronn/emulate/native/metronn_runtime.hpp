// The kernels of the compiled emulator: one template per op, and the loop over blocks of events.
//
// A block is `block_events` events. A tensor of a block is laid out [element][event], so every kernel's inner loop
// runs over events and vectorises whatever the op. Generated code chooses the types: each value is stored in the
// narrowest of int32, int64, int128 and wide<N> that holds its range, and each op computes in a type that the ranges
// prove wide enough for every intermediate result. Floating point (float, double) is chosen only where every product
// and every partial sum is an integer below 2**24 or 2**53: such sums are exact in any order, fused or not, so the
// result does not depend on the instruction set.
#ifndef METRONN_RUNTIME_HPP
#define METRONN_RUNTIME_HPP

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <system_error>
#include <thread>
#include <type_traits>
#include <vector>

#include "metronn_integer.hpp"
#include "metronn_port.hpp"

namespace metronn {

inline constexpr std::size_t block_events = 64;
inline constexpr std::size_t arena_alignment = 64;

enum class rounding { trn, trn_zero, rnd, rnd_zero, rnd_inf, rnd_min_inf, rnd_conv };
enum class overflow { wrap, sat, sat_zero };
enum class binary_op { add, subtract, multiply, maximum, minimum };
enum class reduce_op { sum, maximum, minimum };

// One parameter per element, or one for all (table == nullptr).
template <typename T>
struct per_element {
  const T* table;
  T uniform;
  const T& operator()(std::size_t k) const { return table != nullptr ? table[k] : uniform; }
};

// Which source element an element reads: table[k], or k * stride (1: the same element, 0: always the first).
struct element_map {
  const std::uint32_t* table;
  std::size_t stride;
  std::size_t operator()(std::size_t k) const { return table != nullptr ? table[k] : k * stride; }
};

template <typename T>
inline T* at(std::byte* arena, std::size_t offset) {
  return reinterpret_cast<T*>(arena + offset);
}

// --- the border: [event][element][word] of 64-bit words outside, [element][event] inside ---

template <typename P>
inline P read_words(const std::int64_t* words) {
  if constexpr (sizeof(P) == 8) {
    return static_cast<P>(words[0]);
  } else if constexpr (sizeof(P) == 16) {
    return make128(static_cast<std::uint64_t>(words[1]), static_cast<std::uint64_t>(words[0]));
  } else {
    P value;
    for (std::size_t i = 0; i < sizeof(P) / 8; ++i) {
      value.limb[i] = static_cast<std::uint64_t>(words[i]);
    }
    return value;
  }
}

// Bring `count` events into a block, checking every code; a short block repeats its last event. P is the type of
// the port. Returns false, and where, at the first code outside its range.
template <typename P, typename T>
inline bool load_input(const std::int64_t* source, std::size_t first, std::size_t count, std::size_t size,
                       const per_element<P>& lo, const per_element<P>& hi, T* block, std::size_t input,
                       status& where) {
  constexpr std::size_t words = sizeof(P) / 8;
  bool good = true;
  for (std::size_t k = 0; k < size; ++k) {
    const P low = lo(k);
    const P high = hi(k);
    for (std::size_t e = 0; e < block_events; ++e) {
      const std::size_t event = first + (e < count ? e : count - 1);
      const P code = read_words<P>(source + (event * size + k) * words);
      if (code < low || high < code) {
        if (good || event < where.event) {
          where = status{false, event, input, k};
        }
        good = false;
      }
      block[k * block_events + e] = cast<T>(code);
    }
  }
  return good;
}

template <std::size_t Words, typename T>
inline void store_output(const T* block, std::size_t first, std::size_t count, std::size_t size,
                         std::int64_t* destination) {
  for (std::size_t e = 0; e < count; ++e) {
    std::int64_t* event = destination + (first + e) * size * Words;
    for (std::size_t k = 0; k < size; ++k) {
      for (std::size_t i = 0; i < Words; ++i) {
        event[k * Words + i] = static_cast<std::int64_t>(limb_of(block[k * block_events + e], i));
      }
    }
  }
}

// --- ops: a result never shares memory with an operand ---

// One element's events in the compute type, moved up by `shift` fraction bits.
template <typename C, typename X>
inline void load_row(const X* x, std::int32_t shift, C* row) {
  if (shift == 0) {
    for (std::size_t e = 0; e < block_events; ++e) {
      row[e] = cast<C>(x[e]);
    }
  } else {
    const C factor = power_of_two<C>(static_cast<unsigned>(shift));
    for (std::size_t e = 0; e < block_events; ++e) {
      row[e] = cast<C>(x[e]) * factor;
    }
  }
}

template <typename T>
inline void constant(const T* values, std::size_t size, T* y) {
  for (std::size_t k = 0; k < size; ++k) {
    for (std::size_t e = 0; e < block_events; ++e) {
      y[k * block_events + e] = values[k];
    }
  }
}

// y[target(j)] = x[source(j)] for j < count: the part of a Rewire that one operand feeds.
template <typename X, typename Y>
inline void rewire(const X* x, const element_map& source, const element_map& target, std::size_t count,
                   Y* __restrict__ y) {
  for (std::size_t j = 0; j < count; ++j) {
    const X* from = x + source(j) * block_events;
    Y* to = y + target(j) * block_events;
    for (std::size_t e = 0; e < block_events; ++e) {
      to[e] = cast<Y>(from[e]);
    }
  }
}

template <typename X, typename Y>
inline void window(const X* x, const std::int32_t* source, Y fill, std::size_t count, Y* __restrict__ y) {
  for (std::size_t j = 0; j < count; ++j) {
    const X* from = x + static_cast<std::ptrdiff_t>(source[j]) * static_cast<std::ptrdiff_t>(block_events);
    Y* to = y + j * block_events;
    for (std::size_t e = 0; e < block_events; ++e) {
      to[e] = source[j] < 0 ? fill : cast<Y>(from[e]);
    }
  }
}

template <typename Y>
inline void rewire_zero(const element_map& target, std::size_t count,
                   Y* __restrict__ y) {
  for (std::size_t j = 0; j < count; ++j) {
    for (std::size_t e = 0; e < block_events; ++e) {
      y[target(j) * block_events + e] = Y{};
    }
  }
}

template <binary_op Op, typename C>
inline C apply(const C& a, const C& b) {
  if constexpr (Op == binary_op::add) {
    return a + b;
  } else if constexpr (Op == binary_op::subtract) {
    return a - b;
  } else if constexpr (Op == binary_op::multiply) {
    return a * b;
  } else if constexpr (Op == binary_op::maximum) {
    return a < b ? b : a;
  } else {
    return b < a ? b : a;
  }
}

// z = x op y with operands broadcast by the maps and aligned by the shifts (both by element of z).
template <binary_op Op, typename C, typename X, typename Y, typename Z>
inline void binary(const X* x, const element_map& x_map, const per_element<std::int32_t>& x_shift, const Y* y,
                   const element_map& y_map, const per_element<std::int32_t>& y_shift, std::size_t size,
                   Z* __restrict__ z) {
  for (std::size_t k = 0; k < size; ++k) {
    const X* x_row = x + x_map(k) * block_events;
    const Y* y_row = y + y_map(k) * block_events;
    Z* z_row = z + k * block_events;
    const std::int32_t x_bits = x_shift(k);
    const std::int32_t y_bits = y_shift(k);
    if (y_bits == 0 && x_bits == 0) {
      for (std::size_t e = 0; e < block_events; ++e) {
        z_row[e] = cast<Z>(apply<Op>(cast<C>(x_row[e]), cast<C>(y_row[e])));
      }
      continue;
    }
    C a[block_events];
    C b[block_events];
    load_row(x_row, x_bits, a);
    load_row(y_row, y_bits, b);
    for (std::size_t e = 0; e < block_events; ++e) {
      z_row[e] = cast<Z>(apply<Op>(a[e], b[e]));
    }
  }
}

// y[k] = the sum, maximum or minimum of x[member(k * count + j)], j < count; the shifts are by element of x.
template <reduce_op Op, typename C, typename X, typename Y>
inline void reduce(const X* x, const element_map& member, std::size_t count, const per_element<std::int32_t>& shift,
                   std::size_t size, Y* __restrict__ y) {
  constexpr binary_op step = Op == reduce_op::sum       ? binary_op::add
                             : Op == reduce_op::maximum ? binary_op::maximum
                                                        : binary_op::minimum;
  for (std::size_t k = 0; k < size; ++k) {
    C result[block_events];
    C next[block_events];
    for (std::size_t j = 0; j < count; ++j) {
      const std::size_t source = member(k * count + j);
      load_row(x + source * block_events, shift(source), j == 0 ? result : next);
      if (j > 0) {
        for (std::size_t e = 0; e < block_events; ++e) {
          result[e] = apply<step>(result[e], next[e]);
        }
      }
    }
    for (std::size_t e = 0; e < block_events; ++e) {
      y[k * block_events + e] = cast<Y>(result[e]);
    }
  }
}

// x * 2**-shift as an integer, for shift > 0; `half` is 2**(shift - 1), `one` and `zero` those numbers.
template <rounding Mode, typename C>
inline C rounded(const C& x, unsigned shift, const C& half, const C& one, const C& zero) {
  if constexpr (Mode == rounding::trn) {
    return x >> shift;
  } else if constexpr (Mode == rounding::trn_zero) {
    return (x + (x < zero ? half + (half - one) : zero)) >> shift;
  } else if constexpr (Mode == rounding::rnd) {
    return (x + half) >> shift;
  } else if constexpr (Mode == rounding::rnd_min_inf) {
    return (x + (half - one)) >> shift;
  } else if constexpr (Mode == rounding::rnd_zero) {
    return (x + (x < zero ? half : half - one)) >> shift;
  } else if constexpr (Mode == rounding::rnd_inf) {
    return (x + (x < zero ? half - one : half)) >> shift;
  } else {
    return (x + (half - one) + ((x >> shift) & one)) >> shift;
  }
}

// x brought into [lo, hi]. For wrap, hi - lo + 1 is a power of two.
template <overflow Mode, typename C>
inline C bounded(const C& x, const C& lo, const C& hi, const C& zero) {
  if constexpr (Mode == overflow::wrap) {
    return ((x - lo) & (hi - lo)) + lo;
  } else if constexpr (Mode == overflow::sat) {
    const C raised = x < lo ? lo : x;
    return hi < raised ? hi : raised;
  } else {
    return (x < lo || hi < x) ? zero : x;
  }
}

template <rounding Rounding, overflow Overflow, typename C, typename X, typename Y>
inline void requantize(const X* x, const per_element<std::int32_t>& shift, const per_element<C>& lo,
                       const per_element<C>& hi, std::size_t size, Y* __restrict__ y) {
  const C zero = cast<C>(std::int32_t{0});
  const C one = cast<C>(std::int32_t{1});
  for (std::size_t k = 0; k < size; ++k) {
    const C low = lo(k);
    const C high = hi(k);
    const std::int32_t bits = shift(k);
    const X* from = x + k * block_events;
    Y* to = y + k * block_events;
    if (bits > 0) {
      const auto places = static_cast<unsigned>(bits);
      const C half = power_of_two<C>(places - 1);
      for (std::size_t e = 0; e < block_events; ++e) {
        const C value = rounded<Rounding, C>(cast<C>(from[e]), places, half, one, zero);
        to[e] = cast<Y>(bounded<Overflow, C>(value, low, high, zero));
      }
    } else {
      C row[block_events];
      load_row(from, -bits, row);
      for (std::size_t e = 0; e < block_events; ++e) {
        to[e] = cast<Y>(bounded<Overflow, C>(row[e], low, high, zero));
      }
    }
  }
}

// y = table[x - lowest]
template <typename X, typename Y>
inline void lookup(const X* x, const X& lowest, const Y* table, std::size_t size, Y* __restrict__ y) {
  for (std::size_t j = 0; j < size * block_events; ++j) {
    y[j] = table[cast<std::int64_t>(x[j] - lowest)];
  }
}

// --- linear ---

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

// Weights [n_in][n_out] and bias [n_out] of a Linear op, rearranged once for the kernel: panels of a few outputs,
// in each panel [input][output of the panel]; outputs that fill up the last panel have weight zero.
template <typename C>
class linear_weights {
 public:
  template <typename W, typename B>
  linear_weights(const W* weight, const B* bias, std::size_t n_in, std::size_t n_out)
      : n_in(n_in),
        n_out(n_out),
        panels((n_out + panel_outputs - 1) / panel_outputs),
        weight(panels * n_in * panel_outputs),
        bias(panels * panel_outputs) {
    for (std::size_t o = 0; o < n_out; ++o) {
      this->bias[o] = cast<C>(bias[o]);
      for (std::size_t i = 0; i < n_in; ++i) {
        this->weight[((o / panel_outputs) * n_in + i) * panel_outputs + o % panel_outputs] =
            cast<C>(weight[i * n_out + o]);
      }
    }
  }
  const std::size_t n_in;
  const std::size_t n_out;
  const std::size_t panels;
  std::vector<C> weight;
  std::vector<C> bias;
};

// One panel for one group of events, in registers: panel_outputs x 2 vectors of sums, inputs innermost.
template <typename C, typename Y>
inline void linear_panel(const C* x, const C* weight, const C* bias, std::size_t n_in, std::size_t outputs, Y* y) {
  if constexpr (std::is_floating_point_v<C>) {
    typedef C vector __attribute__((vector_size(vector_bytes)));
    constexpr std::size_t lanes = vector_bytes / sizeof(C);
    for (std::size_t group = 0; group < block_events; group += 2 * lanes) {
      vector sum[panel_outputs][2];
#pragma GCC unroll 8
      for (std::size_t o = 0; o < panel_outputs; ++o) {
        sum[o][0] = vector{} + bias[o];
        sum[o][1] = vector{} + bias[o];
      }
      for (std::size_t i = 0; i < n_in; ++i) {
        vector x0;
        vector x1;
        std::memcpy(&x0, x + i * block_events + group, sizeof x0);
        std::memcpy(&x1, x + i * block_events + group + lanes, sizeof x1);
#pragma GCC unroll 8
        for (std::size_t o = 0; o < panel_outputs; ++o) {
          const C w = weight[i * panel_outputs + o];
          sum[o][0] += x0 * w;
          sum[o][1] += x1 * w;
        }
      }
      C result[panel_outputs][2 * lanes];
      std::memcpy(&result, &sum, sizeof sum);
      for (std::size_t o = 0; o < outputs; ++o) {
        for (std::size_t e = 0; e < 2 * lanes; ++e) {
          y[o * block_events + group + e] = static_cast<Y>(result[o][e]);
        }
      }
    }
  } else {
    for (std::size_t o = 0; o < outputs; ++o) {
      C sum[block_events];
      for (std::size_t e = 0; e < block_events; ++e) {
        sum[e] = bias[o];
      }
      for (std::size_t i = 0; i < n_in; ++i) {
        const C w = weight[i * panel_outputs + o];
        for (std::size_t e = 0; e < block_events; ++e) {
          sum[e] = sum[e] + x[i * block_events + e] * w;
        }
      }
      for (std::size_t e = 0; e < block_events; ++e) {
        y[o * block_events + e] = cast<Y>(sum[e]);
      }
    }
  }
}

// y[r][o] = sum_i x[r][i] * 2**shift[r][i] * weight[i][o] + bias[o] for `rows` rows r; `packed` holds one row of x.
template <typename C, typename X, typename Y>
inline void linear(const X* x, const per_element<std::int32_t>& shift, const linear_weights<C>& weights,
                   std::size_t rows, C* packed, Y* y) {
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t i = 0; i < weights.n_in; ++i) {
      const std::size_t k = r * weights.n_in + i;
      load_row(x + k * block_events, shift(k), packed + i * block_events);
    }
    for (std::size_t p = 0; p < weights.panels; ++p) {
      const std::size_t first = p * panel_outputs;
      const std::size_t outputs = weights.n_out - first < panel_outputs ? weights.n_out - first : panel_outputs;
      linear_panel(packed, weights.weight.data() + p * weights.n_in * panel_outputs, weights.bias.data() + first,
                   weights.n_in, outputs, y + (r * weights.n_out + first) * block_events);
    }
  }
}

// --- the loop over blocks ---

struct arena_deleter {
  void operator()(std::byte* memory) const { ::operator delete(memory, std::align_val_t{arena_alignment}); }
};
using arena_ptr = std::unique_ptr<std::byte, arena_deleter>;

// Calls block(arena, first, count, status&) for every block of events on `threads` threads (0: one per core).
// prepare(arena) fills what stays the same from block to block. Returns the first bad input code by event.
template <typename Prepare, typename Block>
inline status run_blocks(std::size_t events, unsigned threads, std::size_t arena_bytes, Prepare prepare, Block block) {
  const std::size_t blocks = (events + block_events - 1) / block_events;
  std::size_t workers = threads != 0 ? threads : std::thread::hardware_concurrency();
  workers = workers > blocks ? blocks : workers;
  workers = workers == 0 ? 1 : workers;
  std::vector<arena_ptr> arenas;
  for (std::size_t w = 0; w < workers; ++w) {
    void* memory = ::operator new(arena_bytes == 0 ? 1 : arena_bytes, std::align_val_t{arena_alignment});
    arenas.emplace_back(static_cast<std::byte*>(memory));
  }
  std::vector<status> found(workers);
  std::atomic<std::size_t> next{0};
  const auto work = [&](std::size_t worker) {
    std::byte* arena = arenas[worker].get();
    prepare(arena);
    for (std::size_t b = next++; b < blocks; b = next++) {
      const std::size_t first = b * block_events;
      const std::size_t count = events - first < block_events ? events - first : block_events;
      status where;
      block(arena, first, count, where);
      if (!where.ok && (found[worker].ok || where.event < found[worker].event)) {
        found[worker] = where;
      }
    }
  };
  std::vector<std::thread> team;
  for (std::size_t w = 1; w < workers; ++w) {
    try {
      team.emplace_back(work, w);
    } catch (const std::system_error&) {
      break;  // no more threads to be had: those there are do all blocks
    }
  }
  work(0);
  for (std::thread& member : team) {
    member.join();
  }
  status first_bad;
  for (const status& where : found) {
    if (!where.ok && (first_bad.ok || where.event < first_bad.event)) {
      first_bad = where;
    }
  }
  return first_bad;
}

}  // namespace metronn

#endif  // METRONN_RUNTIME_HPP
