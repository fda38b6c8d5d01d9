// Constant matrix times vector, plus bias: the op Linear, all products at once, a new event every cycle. Products by
// constants become adders. dense_stream.hpp has the same in several cycles.
//
//   y[row][o] = sum_i x[row][i] * weight[o][i] + bias[o]
//
// A configuration has
//   rows, n_in, n_out     the shape: x is [rows][n_in], y is [rows][n_out], both flat
//   weight_t, acc_t       hold every weight; hold every partial sum, in any order of summation, so nothing wraps
// All inputs have the same number of fraction bits; align (rewire.hpp) makes it so where they do not.
#ifndef METRONN_DENSE_HPP
#define METRONN_DENSE_HPP

#include "constant.hpp"
#include "platform.hpp"

namespace metronn {

template <typename cfg, typename in_t, typename weight_t, typename bias_t, typename out_t>
void dense(const in_t x[cfg::rows * cfg::n_in], const weight_t weight[cfg::n_out][cfg::n_in],
           const bias_t bias[cfg::n_out], out_t y[cfg::rows * cfg::n_out]) {
#pragma HLS PIPELINE II = 1
  static_assert(cfg::rows > 0 && cfg::n_in > 0 && cfg::n_out > 0, "dense: empty shape");
Rows:
  for (int row = 0; row < cfg::rows; row++) {
#pragma HLS UNROLL
  Outputs:
    for (int o = 0; o < cfg::n_out; o++) {
#pragma HLS UNROLL
      typename cfg::acc_t acc = constant<typename cfg::acc_t>(bias[o]);
    Inputs:
      for (int i = 0; i < cfg::n_in; i++) {
#pragma HLS UNROLL
        const auto product = x[row * cfg::n_in + i] * constant<typename cfg::weight_t>(weight[o][i]);
#pragma HLS BIND_OP variable = product op = mul impl = fabric
        acc += product;
      }
      y[row * cfg::n_out + o] = out_t(acc);
    }
  }
}

}  // namespace metronn

#endif
