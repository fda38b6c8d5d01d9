// Constant matrix times vector, plus bias: the op Linear, all products at once, a new event every cycle. Products by
// constants become adders. dense_stream.hpp has the same in several cycles.
//
//   y[row][o] = sum_i x[row][i] * weight[o][i] + bias[o]
//
// A configuration has
//   rows, n_in, n_out     the shape: x is [rows][n_in], y is [rows][n_out], both flat
//   weight_t, acc_t       hold every weight; hold every partial sum, in any order of summation, so nothing wraps
// Blocks of results are functions of their own, of at most most_products products each.
// All inputs have the same number of fraction bits; align (rewire.hpp) makes it so where they do not.
#ifndef METRONN_DENSE_HPP
#define METRONN_DENSE_HPP

#include "constant.hpp"
#include "platform.hpp"

namespace metronn {

// Products that one function makes at most: what is unrolled in one piece is scheduled in one piece.
constexpr int most_products = 16384;

// Results first .. first + count - 1, row after row.
template <typename cfg, int first, int count, typename in_t, typename weight_t, typename bias_t, typename out_t>
void dense_block(const in_t x[cfg::rows * cfg::n_in], const weight_t weight[cfg::n_out][cfg::n_in],
                 const bias_t bias[cfg::n_out], out_t y[cfg::rows * cfg::n_out]) {
#pragma HLS PIPELINE II = 1
Results:
  for (int k = 0; k < count; k++) {
#pragma HLS UNROLL
    const int row = (first + k) / cfg::n_out;
    const int o = (first + k) % cfg::n_out;
    typename cfg::acc_t acc = constant<typename cfg::acc_t>(bias[o]);
  Inputs:
    for (int i = 0; i < cfg::n_in; i++) {
#pragma HLS UNROLL
      const auto product = x[row * cfg::n_in + i] * constant<typename cfg::weight_t>(weight[o][i]);
#pragma HLS BIND_OP variable = product op = mul impl = fabric
      acc += product;
    }
    y[first + k] = out_t(acc);
  }
}

// All results from `first` on.
template <typename cfg, int first, bool some>
struct dense_from {
  template <typename in_t, typename weight_t, typename bias_t, typename out_t>
  static void run(const in_t x[cfg::rows * cfg::n_in], const weight_t weight[cfg::n_out][cfg::n_in],
                  const bias_t bias[cfg::n_out], out_t y[cfg::rows * cfg::n_out]) {
#pragma HLS INLINE
    const int left = cfg::rows * cfg::n_out - first;
    const int most = cfg::n_in < most_products ? most_products / cfg::n_in : 1;
    const int count = left < most ? left : most;
    dense_block<cfg, first, count>(x, weight, bias, y);
    dense_from<cfg, first + count, (left > count)>::run(x, weight, bias, y);
  }
};

template <typename cfg, int first>
struct dense_from<cfg, first, false> {
  template <typename in_t, typename weight_t, typename bias_t, typename out_t>
  static void run(const in_t[], const weight_t[][cfg::n_in], const bias_t[], out_t[]) {
#pragma HLS INLINE
  }
};

template <typename cfg, typename in_t, typename weight_t, typename bias_t, typename out_t>
void dense(const in_t x[cfg::rows * cfg::n_in], const weight_t weight[cfg::n_out][cfg::n_in],
           const bias_t bias[cfg::n_out], out_t y[cfg::rows * cfg::n_out]) {
#pragma HLS INLINE
  static_assert(cfg::rows > 0 && cfg::n_in > 0 && cfg::n_out > 0, "dense: empty shape");
  dense_from<cfg, 0, true>::run(x, weight, bias, y);
}

}  // namespace metronn

#endif
