// A function of one integer, stored: the op Lookup.
//
//   y[k] = table[x[k] - cfg::lowest()]
//
// A configuration has n (elements), n_entries (codes from the lowest to the highest), work_t (holds every code
// and the distance from the lowest) and lowest() as work_t.
#ifndef METRONN_TABLE_HPP
#define METRONN_TABLE_HPP

#include "constant.hpp"
#include "platform.hpp"

namespace metronn {

template <typename cfg, typename in_t, typename entry_t, typename out_t>
void lookup(const in_t x[cfg::n], const entry_t table[cfg::n_entries], out_t y[cfg::n]) {
#pragma HLS INLINE
  static_assert(cfg::n > 0 && cfg::n_entries > 0, "lookup: empty shape");
Elements:
  for (int k = 0; k < cfg::n; k++) {
#pragma HLS UNROLL
    const typename cfg::work_t place = typename cfg::work_t(x[k]) - cfg::lowest();
    y[k] = constant<out_t>(table[place.to_int()]);
  }
}

}  // namespace metronn

#endif
