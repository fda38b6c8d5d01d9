// Cases of the HLS library. Each case_* returns the line of the first check that fails, or 0.
#include "metronn/activation.hpp"
#include "metronn/bridge.hpp"
#include "metronn/dense.hpp"
#include "metronn/dense_stream.hpp"
#include "metronn/elementwise.hpp"
#include "metronn/reduce.hpp"
#include "metronn/reduce_stream.hpp"
#include "metronn/reorder.hpp"
#include "metronn/requantize.hpp"
#include "metronn/rewire.hpp"
#include "metronn/stream.hpp"
#include "metronn/table.hpp"
#include "metronn/window.hpp"
#include "metronn/window_buffer.hpp"

#define CHECK(condition)             \
  do {                               \
    if (!(condition)) return __LINE__; \
  } while (false)

using metronn::sint;  // uint would meet the one of the C library

// ---- dense: several rows -----------------------------------------------------------------------------------------

constexpr std::int8_t weights[5][7] = {{1, -2, 3, -4, 5, -6, 7},
                                       {0, 0, 0, 0, 0, 0, 0},
                                       {127, 127, 127, 127, 127, 127, 127},
                                       {-128, -128, -128, -128, -128, -128, -128},
                                       {-1, 2, -3, 4, -5, 6, -7}};
constexpr std::int16_t biases[5] = {100, -200, 0, 1, -1};

struct dense_cfg {
  static const int rows = 2;
  static const int n_in = 7;
  static const int n_out = 5;
  typedef sint<8> weight_t;
  typedef sint<20> acc_t;
};

extern "C" int case_dense() {
  sint<8> x[14];
  for (int pattern = 0; pattern < 4; pattern++) {
    for (int k = 0; k < 14; k++) x[k] = pattern == 0 ? -128 : pattern == 1 ? 127 : pattern == 2 ? 37 * k - 200 : k % 2;
    sint<20> y[10];
    metronn::dense<dense_cfg>(x, weights, biases, y);
    for (int row = 0; row < 2; row++) {
      for (int o = 0; o < 5; o++) {
        int sum = biases[o];
        for (int i = 0; i < 7; i++) sum += x[row * 7 + i].to_int() * weights[o][i];
        CHECK(y[row * 5 + o] == sum);
      }
    }
  }
  return 0;
}

// 3 rows of 70 inputs and 100 outputs: 21,000 products in two functions
struct large_cfg {
  static const int rows = 3;
  static const int n_in = 70;
  static const int n_out = 100;
  typedef sint<8> weight_t;
  typedef sint<24> acc_t;
};

extern "C" int case_large_dense() {
  static std::int8_t large_weights[100][70];
  static std::int16_t large_biases[100];
  for (int o = 0; o < 100; o++) {
    large_biases[o] = 37 * o - 1000;
    for (int i = 0; i < 70; i++) large_weights[o][i] = (o * 70 + i) * 31 % 256 - 128;
  }
  sint<8> x[210];
  for (int k = 0; k < 210; k++) x[k] = k * 53 % 256 - 128;
  static sint<24> y[300];
  metronn::dense<large_cfg>(x, large_weights, large_biases, y);
  for (int k = 0; k < 300; k++) {
    int sum = large_biases[k % 100];
    for (int i = 0; i < 70; i++) sum += x[k / 100 * 70 + i].to_int() * large_weights[k % 100][i];
    CHECK(y[k] == sum);
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
  sint<10> loaded[3];
  metronn::load<3>(stored, loaded);
  CHECK(loaded[0] == -300 && loaded[1] == 0 && loaded[2] == 300);
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

// ---- streams: maps, forks, joins ---------------------------------------------------------------------------------

template <int n>
using beat_of = metronn::beat<sint<12>, n>;

template <int n>
using stream_of = metronn::stream<beat_of<n> >;

// y[k] = 2 * x[k] + 1 of single rows
struct twice_cfg {
  static const int beats = 3;
  static const int interval = 1;
  static const int copies = 2;
  static void apply(sint<12> y[2], const sint<12> x[2]) {
    for (int k = 0; k < 2; k++) y[k] = sint<12>(2 * x[k] + 1);
  }
};

// y = x0 - x1
struct difference_cfg {
  static const int beats = 3;
  static const int interval = 1;
  static void apply(sint<12> y[4], const sint<12> a[4], const sint<12> b[4]) {
    for (int k = 0; k < 4; k++) y[k] = sint<12>(a[k] - b[k]);
  }
};

extern "C" int case_stream_maps() {
  stream_of<4> x("x"), first("first"), second("second"), made("made"), y("y"), out("out"), rest("rest");
  for (int b = 0; b < 3; b++) {
    beat_of<4> in;
    for (int k = 0; k < 4; k++) in.slot[k] = 10 * b + k;
    x.write(in);
  }
  metronn::fork_beats<3>(x, first, second);
  metronn::map_rows<twice_cfg>(made, first);
  metronn::map_beats<difference_cfg>(y, made, second);
  metronn::copy_beats<2>(y, out);
  for (int b = 0; b < 2; b++) {
    const beat_of<4> some = out.read();
    for (int k = 0; k < 4; k++) CHECK(some.slot[k] == 10 * b + k + 1);
  }
  CHECK(!y.empty());
  metronn::drain_beat(y);
  CHECK(y.empty() && x.empty() && out.empty() && rest.empty());
  return 0;
}

// y = 2 * x + 1 of a beat of four in two rows
struct twice_once_cfg : twice_cfg {
  static const int beats = 1;
};

struct difference_once_cfg : difference_cfg {
  static const int beats = 1;
};

// one beat of an event, spread over three queues of two slots each, the last half empty
extern "C" int case_stream_words() {
  typedef metronn::part<sint<12>, 5, 3> part_t;
  metronn::stream<part_t> wide[3], copied[3], first[3], second[3];
  beat_of<5> in;
  for (int k = 0; k < 5; k++) in.slot[k] = 100 * k - 7;
  metronn::write_beat(wide, in);
  metronn::copy_beat(wide, copied);
  metronn::fork_beat(copied, first, second);
  metronn::drain_beat(first);
  const beat_of<5> out = metronn::read_beat(second);
  for (int k = 0; k < 5; k++) CHECK(out.slot[k] == 100 * k - 7);
  for (int w = 0; w < 3; w++) CHECK(wide[w].empty() && copied[w].empty() && first[w].empty() && second[w].empty());
  stream_of<4> x("x"), made("made"), other("other"), y("y");
  beat_of<4> four;
  for (int k = 0; k < 4; k++) four.slot[k] = k;
  x.write(four);
  other.write(four);
  metronn::map_row<twice_once_cfg>(made, x);
  metronn::map_beat<difference_once_cfg>(y, made, other);
  const beat_of<4> last = y.read();
  for (int k = 0; k < 4; k++) CHECK(last.slot[k] == k + 1);
  return 0;
}

// ---- matrix products over beats ----------------------------------------------------------------------------------

// weights and biases of above: 7 inputs, 5 outputs; pairs of lanes share a multiplier, which takes high * 2^18 + low
template <int beat_count, int lanes, int way_count>
struct stream_outputs_cfg {
  static const int groups = 2;
  static const int n_in = 7;
  static const int n_out = 5;
  static const int beats = beat_count;
  static const int parallel = lanes;
  static const int remainder = n_out - beats * lanes;
  static const int copies = 2;
  static const int ways = way_count;
  static const int group = 3;
  static const int shift = ways == 2 ? 18 : 0;
  static const int slice = (n_in + beats - 1) / beats;
  static const int main_count = lanes / ways * n_in;
  static const int per_word = 5;
  static const int words = (main_count + (remainder + ways - 1) / ways * slice + per_word - 1) / per_word;
  static const int multipliers = copies * words * per_word;
  typedef sint<40> weight_t;
  typedef sint<48> group_t;
  typedef sint<20> acc_t;
  typedef sint<20> sum_t;
  static int site(int pair, int i) { return pair * n_in + i; }
  static int rest_site(int pair, int k) { return main_count + pair * slice + k; }
  static bool dsp(int, int i) { return i % 2; }
  static bool rest_dsp(int, int) { return true; }
  static void finish(int, const sint<20> *sum, sint<20> *result) {
    for (int k = 0; k < parallel + remainder; k++) result[k] = -sum[k];
  }
  // what the multipliers hold
  static std::int64_t weight(int o, int i) { return o < n_out && i < n_in ? weights[o][i] : 0; }
  static std::int64_t held(int m, int beat) {
    const bool main = m < main_count;
    const int pair = main ? m / n_in : (m - main_count) / slice;
    const int o = main ? beat * lanes + pair * ways : beats * lanes + pair * ways;
    const int i = main ? m % n_in : beat * slice + (m - main_count) % slice;
    if (pair * ways >= (main ? lanes : remainder)) return 0;
    return weight(o, i) + (ways == 2 ? weight(o + 1, i) * (std::int64_t(1) << shift) : 0);
  }
};

inline int row_sum(int row, int o) {
  int sum = biases[o];
  for (int i = 0; i < 7; i++) sum += ((row * 7 + i) * 29 % 256 - 128) * weights[o][i];
  return sum;
}

template <int beats, int lanes, int ways>
int check_stream_outputs() {
  typedef stream_outputs_cfg<beats, lanes, ways> cfg;
  const int width = lanes + cfg::remainder;
  metronn::stream<metronn::beat<sint<8>, 14> > x("x");
  metronn::stream<metronn::beat<sint<20>, 2 * width> > y("y");
  for (int group = 0; group < 2; group++) {
    metronn::beat<sint<8>, 14> in;
    for (int k = 0; k < 14; k++) in.slot[k] = (group * 14 + k) * 29 % 256 - 128;
    x.write(in);
  }
  std::int64_t held[cfg::words][beats][cfg::per_word];
  for (int m = 0; m < cfg::words * cfg::per_word; m++) {
    for (int b = 0; b < beats; b++) held[m / cfg::per_word][b][m % cfg::per_word] = cfg::held(m, b);
  }
  std::int16_t bias[width][beats];
  for (int lane = 0; lane < width; lane++) {
    for (int b = 0; b < beats; b++) bias[lane][b] = biases[lane < lanes ? b * lanes + lane : beats * lanes + lane - lanes];
  }
  metronn::fold_outputs_beats<cfg>(x, held, bias, y);
  for (int group = 0; group < 2; group++) {
    for (int b = lanes > 0 ? 0 : beats - 1; b < beats; b++) {
      const metronn::beat<sint<20>, 2 * width> out = y.read();
      const int count = b == beats - 1 ? width : lanes;
      for (int copy = 0; copy < 2; copy++) {
        for (int k = 0; k < count; k++) {
          const int o = k < lanes ? b * lanes + k : beats * lanes + k - lanes;
          CHECK(out.slot[copy * count + k] == -row_sum(2 * group + copy, o));
        }
      }
    }
  }
  CHECK(y.empty());
  return 0;
}

// the columns of `weights` in beats 6 1 4 | 0 3 5 | 2
struct stream_inputs_cfg {
  static const int groups = 2;
  static const int n_in = 7;
  static const int n_out = 5;
  static const int beats = 3;
  static const int lanes = 3;
  static const int once = 0;
  static int once_slot(int) { return 0; }
  static int once_beat(int) { return 0; }
  static int once_weight(int, int) { return 0; }
  static const int ways = 2;
  static const int group = 2;
  static const int shift = 18;
  static const int words = 3;
  static const int per_word = 3;
  static const int multipliers = 9;
  typedef sint<40> weight_t;
  typedef sint<48> group_t;
  typedef sint<20> acc_t;
  typedef sint<20> sum_t;
  static int site(int pair, int s) { return pair * lanes + s; }
  static bool dsp(int, int) { return true; }
  static void finish(int, const sint<20> *sum, sint<20> *result) {
    for (int k = 0; k < 5; k++) result[k] = -sum[k];
  }
};

// the columns of `weights` in beats 5 1 4 | 0 3 2 6: what comes once has constant weights
struct stream_once_cfg : stream_inputs_cfg {
  static const int beats = 2;
  static const int lanes = 4;
  static const int once = 1;
  static int once_slot(int) { return 3; }
  static int once_beat(int) { return 1; }
  static int once_weight(int o, int) { return weights[o][6]; }
  static const int words = 1;
  static const int per_word = 9;
  static int site(int pair, int s) { return s == 3 ? -1 : pair * 3 + s; }
};

template <typename cfg>
int check_stream_inputs(const int order[cfg::beats * cfg::lanes]) {
  std::int64_t held[cfg::words][cfg::beats][cfg::per_word] = {};
  for (int b = 0; b < cfg::beats; b++) {
    for (int s = 0; s < cfg::lanes; s++) {
      const int i = order[b * cfg::lanes + s];
      if (i < 0) continue;
      for (int pair = 0; pair < 3; pair++) {
        const int m = cfg::site(pair, s);
        if (m < 0) continue;
        const std::int64_t high = pair < 2 ? weights[2 * pair + 1][i] : 0;
        held[m / cfg::per_word][b][m % cfg::per_word] = weights[2 * pair][i] + high * (std::int64_t(1) << cfg::shift);
      }
    }
  }
  std::int16_t bias[5][1];
  for (int o = 0; o < 5; o++) bias[o][0] = biases[o];
  metronn::stream<metronn::beat<sint<8>, cfg::lanes> > x("x");
  metronn::stream<metronn::beat<sint<20>, 5> > y("y");
  for (int event = 0; event < 2; event++) {
    for (int row = 0; row < 2; row++) {
      for (int b = 0; b < cfg::beats; b++) {
        metronn::beat<sint<8>, cfg::lanes> in;
        metronn::clear(in);
        for (int s = 0; s < cfg::lanes; s++) {
          const int i = order[b * cfg::lanes + s];
          if (i >= 0) in.slot[s] = (row * 7 + i) * 29 % 256 - 128;
        }
        x.write(in);
      }
    }
    if (event == 0) {
      metronn::fold_inputs_beats<cfg>(x, held, bias, y);
    } else {
      metronn::fold_inputs_stored_beats<cfg>(x, held, bias, y);
    }
    for (int row = 0; row < 2; row++) {
      const metronn::beat<sint<20>, 5> out = y.read();
      for (int o = 0; o < 5; o++) CHECK(out.slot[o] == -row_sum(row, o));
    }
  }
  return 0;
}

extern "C" int case_stream_dense() {
  int line = check_stream_outputs<2, 2, 1>();
  if (line == 0) line = check_stream_outputs<2, 2, 2>();
  if (line == 0) line = check_stream_outputs<3, 1, 1>();
  if (line == 0) line = check_stream_outputs<4, 1, 1>();
  if (line == 0) line = check_stream_outputs<9, 0, 1>();
  if (line == 0) line = check_stream_outputs<3, 0, 2>();
  const int order[9] = {6, 1, 4, 0, 3, 5, 2, -1, -1};
  if (line == 0) line = check_stream_inputs<stream_inputs_cfg>(order);
  const int once_order[8] = {5, 1, 4, -1, 0, 3, 2, 6};
  if (line == 0) line = check_stream_inputs<stream_once_cfg>(once_order);
  return line;
}

// ---- reductions over beats ---------------------------------------------------------------------------------------

// 5 elements in beats of 2, the even ones into result 0, the odd ones into result 1; the last counts double
struct reduce_stream_cfg {
  static const int beats = 3;
  static const int interval = 1;
  typedef sint<14> acc_t;
  static int filled(int b) { return b == 2 ? 1 : 2; }
  static int result(int, int s) { return s; }
  static int x_shift(int b, int) { return b == 2; }
};

struct reduce_sum_cfg : reduce_stream_cfg {
  static acc_t initial() { return 0; }
};

struct reduce_max_cfg : reduce_stream_cfg {
  static acc_t initial() { return -4096; }
};

struct reduce_min_cfg : reduce_stream_cfg {
  static acc_t initial() { return 4094; }
};

inline void send_five(stream_of<2> &x) {
  const int value[6] = {5, -3, 700, -800, 100, 0};
  for (int b = 0; b < 3; b++) {
    beat_of<2> in;
    for (int s = 0; s < 2; s++) in.slot[s] = value[2 * b + s];
    x.write(in);
  }
}

extern "C" int case_stream_reduce() {
  stream_of<2> x("x");
  metronn::stream<metronn::beat<sint<14>, 2> > y("y");
  send_five(x);
  metronn::reduce_sum_beats<reduce_sum_cfg>(x, y);
  metronn::beat<sint<14>, 2> out = y.read();
  CHECK(out.slot[0] == 905 && out.slot[1] == -803);
  send_five(x);
  metronn::reduce_max_beats<reduce_max_cfg>(x, y);
  out = y.read();
  CHECK(out.slot[0] == 700 && out.slot[1] == -3);
  send_five(x);
  metronn::reduce_min_beats<reduce_min_cfg>(x, y);
  out = y.read();
  CHECK(out.slot[0] == 5 && out.slot[1] == -800);
  return 0;
}

// ---- other beats -------------------------------------------------------------------------------------------------

struct gather_cfg {
  static const int beats = 3;
  static const int interval = 1;
  static int filled(int b) { return b == 2 ? 1 : 2; }
  static int place(int b, int s) { return 4 - 2 * b - s; }
};

// two streams of three beats of 2 and of 1; the second is read a step later. Beat b of the result: the second's newest
// element, the first's slot 1 of the same beat, and the padding
struct reorder_cfg {
  static const int steps = 4;
  static const int streams = 2;
  static const int slots = 3;
  static const int depth = 2;
  static const int most = 2;
  static bool takes(int p, int step) { return step >= p && step < p + 3; }
  static bool leaves(int step) { return step >= 1; }
  static int number(int step) { return step - 1; }
  static int choices(int s) { return s == 1 ? 2 : 1; }
  static int from(int s, int) { return s == 0 ? 2 : s == 1 ? 1 : -1; }
  static int ago(int s, int c) { return s == 1 && c == 0; }
  static int choice(int b, int s) { return s == 1 && b == 2; }
  static sint<4> fill() { return -7; }
};

struct remember_cfg : reorder_cfg {
  static const int copies = 1;
  static int choices(int) { return 1; }
  static int choice(int, int) { return 0; }
  static int age(int b, int k) { return k == 1 && b < 2; }
  static int stream_of(int k) { return k / 2; }
};

extern "C" int case_reorder() {
  stream_of<2> x("x");
  stream_of<1> other("other");
  stream_of<3> y("y");
  stream_of<5> all("all");
  send_five(x);
  metronn::gather_beats<gather_cfg>(x, all);
  const beat_of<5> gathered = all.read();
  CHECK(gathered.slot[4] == 5 && gathered.slot[3] == -3 && gathered.slot[2] == 700 && gathered.slot[1] == -800);
  CHECK(gathered.slot[0] == 100);
  const int second[3] = {-3, -800, 0};
  for (int form = 0; form < 2; form++) {
    send_five(x);
    for (int b = 0; b < 3; b++) {
      beat_of<1> in;
      in.slot[0] = 11 * b;
      other.write(in);
    }
    if (form == 0) {
      metronn::reorder_beats<reorder_cfg>(y, x, other);
    } else {
      metronn::remember_beats<remember_cfg>(y, x, other);
    }
    for (int b = 0; b < 3; b++) {
      const beat_of<3> out = y.read();
      CHECK(out.slot[0] == 11 * b && out.slot[1] == second[b] && out.slot[2] == -7);
    }
  }
  CHECK(x.empty() && other.empty());
  return 0;
}

// ---- windows -----------------------------------------------------------------------------------------------------

// two images of 5 x 6 pixels, two channels in `part_count` parts, blocks of `pixels`; kernel 3 x 2, padding all around
template <int pixels, int part_count, int stride>
struct window_cfg {
  static const int frames = 2, rows = 5, columns = 6;
  static const int width = pixels, blocks = columns / pixels, parts = part_count, channels = 2 / part_count;
  static const int last_channels = channels, slots = width * channels, length = blocks * parts, lines = 2;
  static const int kernel_rows = 3, kernel_columns = 2, row_stride = 2, column_stride = stride;
  static const int row_dilation = 1, column_dilation = 2, rows_before = 1, columns_before = 1;
  static const int out_rows = 3, out_columns = (6 + 2 - 3) / stride + 1;
  static const int out_width = pixels == 1 ? 1 : pixels / stride;
  static const int out_blocks = (out_columns + out_width - 1) / out_width;
  static const int newest = (out_width - 1) * stride + 1;
  static const int first_block = blocks == 1 ? 0 : newest / width;
  static const int block_step = pixels == 1 ? stride : 1;
  static const int kept = blocks == 1 ? 1 : (first_block + 1) * parts + 1;
  static const int first_step = (blocks + first_block) * parts;
  static const int last_row = rows + (out_rows - 1) * row_stride + 1;
  static const int last = (last_row * blocks + first_block + (out_blocks - 1) * block_step + 1) * parts;
  static const int steps = last > frames * rows * blocks * parts ? last : frames * rows * blocks * parts;
  static const int interval = 1;
  static sint<12> fill() { return -99; }
};

inline int pixel_of(int frame, int row, int column, int channel) {
  return ((frame * 5 + row) * 6 + column) * 2 + channel;
}

// in one process, or in two
template <typename cfg>
int check_windows(bool split) {
  stream_of<cfg::width * cfg::channels> x("x");
  stream_of<cfg::out_width * 6 * cfg::channels> y("y");
  for (int at = 0; at < 60; at += cfg::width) {
    for (int part = 0; part < cfg::parts; part++) {
      beat_of<cfg::width * cfg::channels> in;
      for (int k = 0; k < cfg::width * cfg::channels; k++) {
        in.slot[k] = (at + k / cfg::channels) * 2 + part * cfg::channels + k % cfg::channels;
      }
      x.write(in);
    }
  }
  if (split) {
    stream_of<(cfg::first_block + 1) * 3 * cfg::slots> begin("begin");
    stream_of<3 * cfg::slots> columns("columns");
    metronn::line_beats<cfg>(x, begin, columns);
    metronn::column_beats<cfg>(begin, columns, y);
    CHECK(begin.empty() && columns.empty());
  } else {
    metronn::window_beats<cfg>(x, y);
  }
  for (int at = 0; at < 2 * cfg::out_rows * cfg::out_blocks; at++) {
    const int frame = at / cfg::out_blocks / cfg::out_rows;
    const int top = at / cfg::out_blocks % cfg::out_rows * cfg::row_stride - 1;
    for (int part = 0; part < cfg::parts; part++) {
      const auto out = y.read();
      for (int k = 0; k < cfg::out_width * 6 * cfg::channels; k++) {
        const int window = at % cfg::out_blocks * cfg::out_width + k / (6 * cfg::channels);
        const int row = top + k / cfg::channels / 2 % 3;
        const int column = window * cfg::column_stride - 1 + k / cfg::channels % 2 * 2;
        const int channel = part * cfg::channels + k % cfg::channels;
        if (window >= cfg::out_columns) continue;
        const bool inside = row >= 0 && row < 5 && column >= 0 && column < 6;
        CHECK(out.slot[k] == (inside ? pixel_of(frame, row, column, channel) : -99));
      }
    }
  }
  CHECK(x.empty() && y.empty());
  return 0;
}

// all windows of two pixels of three at once
struct whole_window_cfg {
  static const int n = 6;
  static const int n_in = 3;
  static int index(int k) { return k / 2 + k % 2 == 0 ? -1 : k / 2 + k % 2 - 1; }
  static sint<4> fill() { return -7; }
};

extern "C" int case_windows() {
  int line = 0;
  for (int split = 0; split < 2; split++) {
    if (line == 0) line = check_windows<window_cfg<1, 1, 1> >(split != 0);
    if (line == 0) line = check_windows<window_cfg<1, 2, 2> >(split != 0);
    if (line == 0) line = check_windows<window_cfg<1, 1, 3> >(split != 0);
    if (line == 0) line = check_windows<window_cfg<2, 1, 1> >(split != 0);
    if (line == 0) line = check_windows<window_cfg<2, 2, 2> >(split != 0);
    if (line == 0) line = check_windows<window_cfg<3, 1, 1> >(split != 0);
    if (line == 0) line = check_windows<window_cfg<6, 2, 1> >(split != 0);
    if (line == 0) line = check_windows<window_cfg<6, 1, 2> >(split != 0);
  }
  if (line != 0) return line;
  const sint<8> x[3] = {1, 2, 3};
  sint<8> y[6];
  metronn::window<whole_window_cfg>(x, y);
  CHECK(y[0] == -7 && y[1] == 1 && y[2] == 1 && y[3] == 2 && y[4] == 2 && y[5] == 3);
  return 0;
}
