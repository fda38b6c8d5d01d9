// Additions written out one by one, as the plan has them. They are made in native integers, which every compiler reads
// fast, and each sum is cut to the bits that its bounds ask for: that loses nothing, and tells the tool how wide the
// adder is.
//
//   signed_bits<w>(v)     v as a signed number of w bits
//   unsigned_bits<w>(v)   v as an unsigned number of w bits
//
// Bits above are dropped, as ap_int does. v is an int with w <= 31, or a long_t with w <= 63.
#ifndef METRONN_ADDERS_HPP
#define METRONN_ADDERS_HPP

#include "platform.hpp"

namespace metronn {

typedef long long long_t;  // what the vendor's to_int64 returns

template <int w>
inline int signed_bits(int v) {
#pragma HLS INLINE
  static_assert(w > 0 && w < 32, "signed_bits: more bits than the type has");
  return int(unsigned(v) << (32 - w)) >> (32 - w);
}

template <int w>
inline long_t signed_bits(long_t v) {
#pragma HLS INLINE
  static_assert(w > 0 && w < 64, "signed_bits: more bits than the type has");
  return long_t(static_cast<unsigned long long>(v) << (64 - w)) >> (64 - w);
}

template <int w>
inline int unsigned_bits(int v) {
#pragma HLS INLINE
  static_assert(w > 0 && w < 32, "unsigned_bits: more bits than the type has");
  return int(unsigned(v) & ((1u << w) - 1));
}

template <int w>
inline long_t unsigned_bits(long_t v) {
#pragma HLS INLINE
  static_assert(w > 0 && w < 64, "unsigned_bits: more bits than the type has");
  return long_t(static_cast<unsigned long long>(v) & ((1ull << w) - 1));
}

}  // namespace metronn

#endif
