// Between 64-bit words and integers of any width, alone or in streams: for test benches and emulators, never
// synthesised.
//
// A value takes `limb_count<T>` words, lowest first, two's complement, sign extended to the last word.
#ifndef METRONN_BRIDGE_HPP
#define METRONN_BRIDGE_HPP

#include <cstdint>

#include "stream.hpp"

namespace metronn {

// Words that hold `width` bits and a sign.
constexpr int limb_count(int width, bool is_signed) { return (width + (is_signed ? 0 : 1) + 63) / 64; }

// n values from words; `next` moves past them.
template <int n, int count, typename T>
void read_words(const std::int64_t *&next, T value[n]) {
  for (int k = 0; k < n; k++) {
    sint<64 * count> wide = 0;
    for (int word = count - 1; word >= 0; word--) {
      if (count > 1) wide = (wide << 32) << 32;
      wide |= sint<64 * count>(uint<64>(static_cast<std::uint64_t>(next[word])));
    }
    value[k] = T(wide);
    next += count;
  }
}

// n values as words; `next` moves past them.
template <int n, int count, typename T>
void write_words(const T value[n], std::int64_t *&next) {
  for (int k = 0; k < n; k++) {
    sint<64 * count> wide = value[k];
    for (int word = 0; word < count; word++) {
      next[word] = static_cast<std::int64_t>(uint<64>(wide).to_uint64());
      if (count > 1) wide = (wide >> 32) >> 32;
    }
    next += count;
  }
}

// A tensor into a queue. A configuration has beats, filled(b) and element(b, s): which one is in slot s of beat b.
template <typename cfg, typename T, typename queue_t>
void send_beats(const T value[], queue_t &to) {
  for (int b = 0; b < cfg::beats; b++) {
    typename beat_of<queue_t>::type some;
    clear(some);
    for (int s = 0; s < cfg::filled(b); s++) some.slot[s] = value[cfg::element(b, s)];
    write_beat(to, some);
  }
}

// A tensor from a queue.
template <typename cfg, typename T, typename queue_t>
void receive_beats(queue_t &from, T value[]) {
  for (int b = 0; b < cfg::beats; b++) {
    const typename beat_of<queue_t>::type some = read_beat(from);
    for (int s = 0; s < cfg::filled(b); s++) value[cfg::element(b, s)] = some.slot[s];
  }
}

}  // namespace metronn

#endif
