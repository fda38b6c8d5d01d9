// The kernels of the compiled emulator: one template per op, and the loop over blocks of events.
//
// A block is `block_events` events. A tensor of a block is laid out [element][event], so every kernel's inner loop
// runs over events and vectorises whatever the op. Generated code chooses the types: each value is stored in the
// narrowest of uint8, int8, int16, int32, int64, int128 and wide<N> that holds its range, and each op computes in a
// type that the ranges prove wide enough for every intermediate result. Ops in a row that work element by element
// run a tile of elements at a time, so that what lies between them stays in the cache. Floating point (float, double) is chosen only where every product
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
#include <utility>
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

constexpr binary_op binary_of(reduce_op op) {
  return op == reduce_op::sum ? binary_op::add : op == reduce_op::maximum ? binary_op::maximum : binary_op::minimum;
}

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

// The rows of a tensor, one per element, from element `base` on.
template <typename T>
struct rows {
  T* data;
  std::size_t base;
  T* operator[](std::size_t k) const { return data + (k - base) * block_events; }
};

template <typename T>
inline rows<T> whole(std::byte* arena, std::size_t offset) {
  return {at<T>(arena, offset), 0};
}

// A tile: the elements from `base` on, alone in memory.
template <typename T>
inline rows<T> tile(std::byte* arena, std::size_t offset, std::size_t base) {
  return {at<T>(arena, offset), base};
}

// --- tables worked out before the first block ---

// offset + sum of digit * stride over the digits of 0, 1, 2, ... in a number system with these places.
inline std::vector<std::uint32_t> strided(const std::vector<std::size_t>& places,
                                          const std::vector<std::ptrdiff_t>& strides, std::size_t offset) {
  std::vector<std::uint32_t> values{static_cast<std::uint32_t>(offset)};
  for (std::size_t axis = 0; axis < places.size(); ++axis) {
    std::vector<std::uint32_t> next;
    next.reserve(values.size() * places[axis]);
    for (const std::uint32_t value : values) {
      for (std::size_t digit = 0; digit < places[axis]; ++digit) {
        const std::ptrdiff_t moved = value + static_cast<std::ptrdiff_t>(digit) * strides[axis];
        next.push_back(static_cast<std::uint32_t>(moved));
      }
    }
    values = std::move(next);
  }
  return values;
}

// `period` values again and again, `size` in all.
template <typename T>
inline std::vector<T> repeated(const T* values, std::size_t period, std::size_t size) {
  std::vector<T> all(size);
  for (std::size_t k = 0; k < size; ++k) {
    all[k] = values[k % period];
  }
  return all;
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
// the port. Returns false, and where, at the first code outside its range. A few elements of every event go at a
// time: one after another in memory outside, one event after another inside.
template <typename P, typename T>
inline bool load_input(const std::int64_t* source, std::size_t first, std::size_t count, std::size_t size,
                       const per_element<P>& lo, const per_element<P>& hi, T* block, std::size_t input,
                       status& where) {
  constexpr std::size_t words = sizeof(P) / 8;
  constexpr std::size_t group = words == 1 ? 16 : 1;
  bool good = true;
  for (std::size_t begin = 0; begin < size; begin += group) {
    const std::size_t some = size - begin < group ? size - begin : group;
    P codes[group][block_events];
    for (std::size_t e = 0; e < block_events; ++e) {
      const std::int64_t* from = source + ((first + (e < count ? e : count - 1)) * size + begin) * words;
      for (std::size_t j = 0; j < some; ++j) {
        codes[j][e] = read_words<P>(from + j * words);
      }
    }
    for (std::size_t j = 0; j < some; ++j) {
      const P low = lo(begin + j);
      const P high = hi(begin + j);
      T* to = block + (begin + j) * block_events;
      unsigned bad = 0;
      for (std::size_t e = 0; e < block_events; ++e) {
        bad |= static_cast<unsigned>(codes[j][e] < low) | static_cast<unsigned>(high < codes[j][e]);
        to[e] = cast<T>(codes[j][e]);
      }
      for (std::size_t e = 0; bad != 0 && e < count; ++e) {
        if ((codes[j][e] < low || high < codes[j][e]) && (good || first + e < where.event)) {
          where = status{false, first + e, input, begin + j};
          good = false;
        }
      }
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

// z = x op y for elements begin to end, with operands broadcast by the maps and aligned by the shifts (both by
// element of z).
template <binary_op Op, typename C, typename X, typename Y, typename Z>
inline void binary(rows<X> x, const element_map& x_map, const per_element<std::int32_t>& x_shift, rows<Y> y,
                   const element_map& y_map, const per_element<std::int32_t>& y_shift, std::size_t begin,
                   std::size_t end, rows<Z> z) {
  for (std::size_t k = begin; k < end; ++k) {
    const X* x_row = x[x_map(k)];
    const Y* y_row = y[y_map(k)];
    Z* __restrict__ z_row = z[k];
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
  constexpr binary_op step = binary_of(Op);
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
inline void requantize(rows<X> x, const per_element<std::int32_t>& shift, const per_element<C>& lo,
                       const per_element<C>& hi, std::size_t begin, std::size_t end, rows<Y> y) {
  const C zero = cast<C>(std::int32_t{0});
  const C one = cast<C>(std::int32_t{1});
  for (std::size_t k = begin; k < end; ++k) {
    const C low = lo(k);
    const C high = hi(k);
    const std::int32_t bits = shift(k);
    const X* from = x[k];
    Y* __restrict__ to = y[k];
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
template <typename X, typename T, typename Y>
inline void lookup(rows<X> x, const X& lowest, const T* table, std::size_t begin, std::size_t end, rows<Y> y) {
  const X* from = x[begin];
  Y* __restrict__ to = y[begin];
  for (std::size_t j = 0; j < (end - begin) * block_events; ++j) {
    to[j] = cast<Y>(table[cast<std::int64_t>(from[j] - lowest)]);
  }
}

// --- the loop over blocks ---

struct arena_deleter {
  void operator()(std::byte* memory) const { ::operator delete(memory, std::align_val_t{arena_alignment}); }
};
using arena_ptr = std::unique_ptr<std::byte, arena_deleter>;

// Calls block(arena, first, count, status&) for every block of events on `threads` threads (0: one per core), each
// with an arena of `arena_bytes`. prepare(arena) fills what stays the same from block to block. Returns the first bad input code by event.
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
