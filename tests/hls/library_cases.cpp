// Cases of the HLS library. Each case_* returns the line of the first check that fails, or 0.
#include "metronn/activation.hpp"
#include "metronn/bridge.hpp"
#include "metronn/dense.hpp"
#include "metronn/elementwise.hpp"
#include "metronn/reduce.hpp"
#include "metronn/requantize.hpp"
#include "metronn/rewire.hpp"
#include "metronn/table.hpp"

#define CHECK(condition)             \
  do {                               \
    if (!(condition)) return __LINE__; \
  } while (false)

using metronn::sint;  // uint would meet the one of the C library

// ---- dense: three forms, every number of lanes, several rows -----------------------------------------------------

constexpr std::int8_t weights[5][7] = {{1, -2, 3, -4, 5, -6, 7},
                                       {0, 0, 0, 0, 0, 0, 0},
                                       {127, 127, 127, 127, 127, 127, 127},
                                       {-128, -128, -128, -128, -128, -128, -128},
                                       {-1, 2, -3, 4, -5, 6, -7}};
constexpr std::int16_t biases[5] = {100, -200, 0, 1, -1};

template <int lanes, int total, int rest = 0>
struct dense_cfg {
  static const int rows = 2;
  static const int n_in = 7;
  static const int n_out = 5;
  static const int parallel = lanes;
  static const int remainder = rest;
  static const int beats = (total - rest + lanes - 1) / lanes;
  typedef sint<8> weight_t;
  typedef sint<20> acc_t;
};

template <int lanes>
int check_dense(const sint<8> x[14], const sint<20> expected[10]) {
  sint<20> y[10];
  metronn::dense_fold_outputs<dense_cfg<lanes, 10> >(x, weights, biases, y);
  for (int k = 0; k < 10; k++) CHECK(y[k] == expected[k]);
  metronn::dense_fold_outputs<dense_cfg<lanes, 10, 3> >(x, weights, biases, y);
  for (int k = 0; k < 10; k++) CHECK(y[k] == expected[k]);
  metronn::dense_fold_inputs<dense_cfg<(lanes < 7 ? lanes : 7), 7> >(x, weights, biases, y);
  for (int k = 0; k < 10; k++) CHECK(y[k] == expected[k]);
  return 0;
}

extern "C" int case_dense_forms() {
  sint<8> x[14];
  for (int pattern = 0; pattern < 4; pattern++) {
    for (int k = 0; k < 14; k++) x[k] = pattern == 0 ? -128 : pattern == 1 ? 127 : pattern == 2 ? 37 * k - 200 : k % 2;
    sint<20> expected[10];
    for (int row = 0; row < 2; row++) {
      for (int o = 0; o < 5; o++) {
        int sum = biases[o];
        for (int i = 0; i < 7; i++) sum += x[row * 7 + i].to_int() * weights[o][i];
        expected[row * 5 + o] = sum;
      }
    }
    sint<20> y[10];
    metronn::dense<dense_cfg<10, 10> >(x, weights, biases, y);
    for (int k = 0; k < 10; k++) CHECK(y[k] == expected[k]);
    int line = check_dense<1>(x, expected);
    if (line == 0) line = check_dense<2>(x, expected);
    if (line == 0) line = check_dense<3>(x, expected);
    if (line == 0) line = check_dense<4>(x, expected);
    if (line == 0) line = check_dense<7>(x, expected);
    if (line == 0) line = check_dense<10>(x, expected);
    if (line != 0) return line;
  }
  return 0;
}

// ---- dense beyond 64 bits ----------------------------------------------------------------------------------------

// 2^70 + 3, -2^70
constexpr metronn::limbs<2> wide_weights[1][2] = {{{{0x3u, 0x40u}}, {{0x0u, 0xffffffffffffffc0u}}}};
constexpr std::int8_t wide_bias[1] = {-5};

struct wide_cfg {
  static const int rows = 1;
  static const int n_in = 2;
  static const int n_out = 1;
  typedef sint<72> weight_t;
  typedef sint<140> acc_t;
};

extern "C" int case_wide_dense() {
  const sint<60> x[2] = {sint<60>(1) << 50, sint<60>(-7)};
  sint<140> y[1];
  metronn::dense<wide_cfg>(x, wide_weights, wide_bias, y);
  const sint<140> one = 1;
  CHECK(y[0] == (one << 120) + 3 * (one << 50) + 7 * (one << 70) - 5);
  return 0;
}

// ---- reduce ------------------------------------------------------------------------------------------------------

struct reduce_cfg {
  static const int n_out = 2;
  static const int n_terms = 3;
  typedef sint<14> acc_t;
  static int x_index(int o, int t) { return t * n_out + o; }
  static int x_shift(int k) { return k == 0 ? 4 : 0; }
};

extern "C" int case_reduce() {
  const sint<8> x[6] = {-3, 5, 100, -100, -128, 127};
  sint<14> y[2];
  metronn::reduce_sum<reduce_cfg>(x, y);
  CHECK(y[0] == -3 * 16 + 100 - 128 && y[1] == 5 - 100 + 127);
  metronn::reduce_max<reduce_cfg>(x, y);
  CHECK(y[0] == 100 && y[1] == 127);
  metronn::reduce_min<reduce_cfg>(x, y);
  CHECK(y[0] == -128 && y[1] == -100);
  return 0;
}

// ---- elementwise -------------------------------------------------------------------------------------------------

struct pair_cfg {
  static const int n = 6;
  typedef sint<14> work_t;
  static int x_index(int k) { return k; }
  static int y_index(int k) { return k / 3; }
  static int x_shift(int) { return 0; }
  static int y_shift(int k) { return k % 2; }
};

struct relu_cfg {
  static const int n = 6;
  typedef sint<9> work_t;
  static int x_shift(int) { return 1; }
};

extern "C" int case_elementwise() {
  const sint<8> x[6] = {-128, 127, -1, 0, 1, 50};
  const metronn::uint<8> y[2] = {255, 3};
  sint<17> z[6];
  metronn::add<pair_cfg>(x, y, z);
  CHECK(z[0] == 127 && z[1] == 637 && z[2] == 254 && z[3] == 6 && z[4] == 4 && z[5] == 56);
  metronn::subtract<pair_cfg>(x, y, z);
  CHECK(z[0] == -383 && z[1] == -383 && z[2] == -256 && z[3] == -6 && z[4] == -2 && z[5] == 44);
  metronn::multiply<pair_cfg>(x, y, z);
  CHECK(z[0] == -32640 && z[1] == 32385 && z[2] == -255 && z[3] == 0 && z[4] == 3 && z[5] == 150);
  metronn::maximum<pair_cfg>(x, y, z);
  CHECK(z[0] == 255 && z[1] == 510 && z[2] == 255 && z[3] == 6 && z[4] == 3 && z[5] == 50);
  metronn::minimum<pair_cfg>(x, y, z);
  CHECK(z[0] == -128 && z[1] == 127 && z[2] == -1 && z[3] == 0 && z[4] == 1 && z[5] == 6);
  metronn::uint<8> r[6];
  metronn::relu<relu_cfg>(x, r);
  CHECK(r[0] == 0 && r[1] == 254 && r[2] == 0 && r[3] == 0 && r[4] == 2 && r[5] == 100);
  return 0;
}

// ---- wires -------------------------------------------------------------------------------------------------------

struct rewire_cfg {
  static const int n = 5;
  static int index(int k) { return k == 0 ? -1 : 6 - k; }
};

struct align_cfg {
  static const int n = 3;
  static int x_shift(int k) { return k; }
};

constexpr std::int16_t stored[3] = {-300, 0, 300};

extern "C" int case_wires() {
  const sint<4> a[3] = {-8, 7, 1};
  const metronn::uint<4> b[1] = {15};
  const sint<9> c[2] = {-256, 255};
  sint<9> y[5];
  metronn::rewire<rewire_cfg, 3, 1, 2>(y, a, b, c);
  CHECK(y[0] == 0 && y[1] == 255 && y[2] == -256 && y[3] == 15 && y[4] == 1);
  sint<9> aligned[3];
  metronn::align<align_cfg>(a, aligned);
  CHECK(aligned[0] == -8 && aligned[1] == 14 && aligned[2] == 4);
  sint<10> loaded[3], first[3], second[3];
  metronn::load<3>(stored, loaded);
  metronn::fork<3>(loaded, first, second);
  CHECK(first[0] == -300 && first[1] == 0 && second[2] == 300);
  metronn::copy<3>(aligned, loaded);
  CHECK(loaded[0] == -8 && loaded[1] == 14 && loaded[2] == 4);
  return 0;
}

// ---- tables ------------------------------------------------------------------------------------------------------

constexpr std::int8_t entries[4] = {10, -20, 30, -40};

struct table_cfg {
  static const int n = 4;
  static const int n_entries = 4;
  typedef sint<4> work_t;
  static work_t lowest() { return -2; }
};

extern "C" int case_tables() {
  const sint<2> x[4] = {-2, -1, 0, 1};
  sint<7> y[4];
  metronn::lookup<table_cfg>(x, entries, y);
  for (int k = 0; k < 4; k++) CHECK(y[k] == entries[k]);
  return 0;
}

// ---- words of the bridge, stored constants -----------------------------------------------------------------------

template <typename T, int width, bool is_signed>
int round_trip(const T &value) {
  constexpr int count = metronn::limb_count(width, is_signed);
  std::int64_t words[count];
  std::int64_t *to = words;
  metronn::write_words<1, count>(&value, to);
  CHECK(to == words + count);
  T back[1];
  const std::int64_t *from = words;
  metronn::read_words<1, count>(from, back);
  CHECK(back[0] == value);
  CHECK((words[count - 1] < 0) == (value < 0));
  return 0;
}

extern "C" int case_words() {
  int line = 0;
  for (int k = 0; k < 130 && line == 0; k++) line = round_trip<sint<130>, 130, true>(sint<130>(-3) << k);
  for (int k = 0; k < 64 && line == 0; k++) line = round_trip<metronn::uint<64>, 64, false>(metronn::uint<64>(3) << k);
  for (int k = 0; k < 63 && line == 0; k++) line = round_trip<metronn::uint<63>, 63, false>(metronn::uint<63>(3) << k);
  for (int k = 0; k < 64 && line == 0; k++) line = round_trip<sint<64>, 64, true>(sint<64>(-3) << k);
  if (line == 0) line = round_trip<metronn::uint<1>, 1, false>(metronn::uint<1>(1));
  if (line == 0) line = round_trip<sint<1>, 1, true>(sint<1>(-1));
  if (line != 0) return line;
  const metronn::limbs<1> minus_two = {{0xfffffffffffffffeu}};
  CHECK(metronn::constant<sint<5> >(minus_two) == -2);
  CHECK(metronn::constant<sint<100> >(minus_two) == -2);
  return 0;
}

// ---- requantize --------------------------------------------------------------------------------------------------

template <metronn::rounding rounding_mode>
static sint<24> rounded(int mode, int code, int shift) {
  const sint<24> here = metronn::round_shift<rounding_mode>(sint<24>(code), shift);
  return mode == static_cast<int>(rounding_mode) ? here : sint<24>(0);
}

// modes count as in the IR: TRN, TRN_ZERO, RND, RND_ZERO, RND_INF, RND_MIN_INF, RND_CONV; WRAP, SAT, SAT_ZERO, SAT_SYM
extern "C" int requantize_code(int rounding_mode, int overflow_mode, int code, int shift, int lo, int hi) {
  using metronn::overflow;
  using metronn::rounding;
  const sint<24> value = rounded<rounding::trn>(rounding_mode, code, shift) +
                         rounded<rounding::trn_zero>(rounding_mode, code, shift) +
                         rounded<rounding::rnd>(rounding_mode, code, shift) +
                         rounded<rounding::rnd_zero>(rounding_mode, code, shift) +
                         rounded<rounding::rnd_inf>(rounding_mode, code, shift) +
                         rounded<rounding::rnd_min_inf>(rounding_mode, code, shift) +
                         rounded<rounding::rnd_conv>(rounding_mode, code, shift);
  const sint<24> low = lo, high = hi;
  switch (overflow_mode) {
    case 0:
      return metronn::bring_into<overflow::wrap>(value, low, high).to_int();
    case 1:
      return metronn::bring_into<overflow::sat>(value, low, high).to_int();
    case 2:
      return metronn::bring_into<overflow::sat_zero>(value, low, high).to_int();
    default:
      return metronn::bring_into<overflow::sat_sym>(value, low, high).to_int();
  }
}
