// Stored integers: weights, biases, table entries and bounds as the generated files spell them.
//
// An array whose entries all fit 64 bits is stored in std::int8_t .. std::int64_t, which every compiler reads
// fast; wider ones are stored as limbs<n>, 64 bits per limb, lowest limb first, two's complement.
// constant<T>(entry) is the entry as an integer of type T; its unused high bits cost no hardware.
#ifndef METRONN_CONSTANT_HPP
#define METRONN_CONSTANT_HPP

#include <cstdint>

#include "platform.hpp"

namespace metronn {

template <int count>
struct limbs {
  std::uint64_t word[count];
};

template <typename T, typename stored_t>
inline T constant(stored_t stored) {
#pragma HLS INLINE
  return T(stored);
}

template <typename T, int count>
inline T constant(const limbs<count> &stored) {
#pragma HLS INLINE
  integer<64 * count, true> value = 0;
Limbs:
  for (int k = count - 1; k >= 0; k--) {
#pragma HLS UNROLL
    value = (value << 32) << 32;  // in two steps: a shift by the whole width is undefined when count is 1
    value |= integer<64 * count, true>(uint<64>(stored.word[k]));
  }
  return T(value);
}

}  // namespace metronn

#endif
