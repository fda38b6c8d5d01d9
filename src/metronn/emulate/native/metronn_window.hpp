// Sliding windows: which pixel each position of a window reads. No kernel ever writes the windows themselves down
// where only a Linear op or a reduction reads them.
#ifndef METRONN_WINDOW_HPP
#define METRONN_WINDOW_HPP

#include "metronn_runtime.hpp"

namespace metronn {

// A pixel is one place of the axes before the last; it has `channels` elements. Position r of the result reads pixels
// pixel[r * taps + t] for tap t; beyond the edge that is -1.
struct window_map {
  std::size_t positions;
  std::size_t taps;
  std::size_t inner_taps;  // taps along the innermost spatial axis
  std::size_t channels;
  std::vector<std::int32_t> pixel;

  // No window: position r reads pixel r.
  static window_map plain(std::size_t positions, std::size_t channels) {
    window_map map{positions, 1, 1, channels, std::vector<std::int32_t>(positions)};
    for (std::size_t r = 0; r < positions; ++r) {
      map.pixel[r] = static_cast<std::int32_t>(r);
    }
    return map;
  }

  using sizes = std::vector<std::size_t>;

  // One entry per spatial axis; `places` are the positions along each, `lead` the images one after another.
  static window_map sliding(std::size_t lead, const sizes& spatial, const sizes& places, const sizes& kernel,
                            const sizes& strides, const sizes& dilations, const sizes& before, std::size_t channels) {
    window_map map{lead, 1, kernel.back(), channels, {}};
    std::size_t pixels = 1;
    for (std::size_t axis = 0; axis < spatial.size(); ++axis) {
      map.positions *= places[axis];
      map.taps *= kernel[axis];
      pixels *= spatial[axis];
    }
    map.pixel.resize(map.positions * map.taps);
    for (std::size_t r = 0; r < map.positions; ++r) {
      for (std::size_t t = 0; t < map.taps; ++t) {
        std::size_t rest = r;
        std::size_t tap = t;
        std::size_t scale = 1;
        std::size_t index = 0;
        bool inside = true;
        for (std::size_t axis = spatial.size(); axis-- > 0;) {
          const std::size_t padded = rest % places[axis] * strides[axis] + tap % kernel[axis] * dilations[axis];
          inside = inside && padded >= before[axis] && padded - before[axis] < spatial[axis];
          index += inside ? (padded - before[axis]) * scale : 0;
          scale *= spatial[axis];
          rest /= places[axis];
          tap /= kernel[axis];
        }
        map.pixel[r * map.taps + t] = inside ? static_cast<std::int32_t>(rest * pixels + index) : -1;
      }
    }
    return map;
  }
};

template <typename T>
inline void fill_row(T value, T* row) {
  for (std::size_t e = 0; e < block_events; ++e) {
    row[e] = value;
  }
}

// The windows written down, for readers of any kind.
template <typename X, typename Y>
inline void window(rows<X> x, const window_map& map, X fill, Y* y) {
  for (std::size_t j = 0; j < map.positions * map.taps; ++j) {
    const std::int32_t pixel = map.pixel[j];
    for (std::size_t c = 0; c < map.channels; ++c) {
      Y* __restrict__ to = y + (j * map.channels + c) * block_events;
      if (pixel < 0) {
        fill_row(cast<Y>(fill), to);
        continue;
      }
      const X* from = x[static_cast<std::size_t>(pixel) * map.channels + c];
      for (std::size_t e = 0; e < block_events; ++e) {
        to[e] = cast<Y>(from[e]);
      }
    }
  }
}

// result = what it was (unless `First`) and N rows, combined.
template <binary_op Op, std::size_t N, bool First, typename C, typename X>
inline void combine(const X* const* source, C* __restrict__ result) {
  for (std::size_t e = 0; e < block_events; ++e) {
    C value = cast<C>(source[0][e]);
    if constexpr (!First) {
      value = apply<Op, C>(result[e], value);
    }
#pragma GCC unroll 4
    for (std::size_t n = 1; n < N; ++n) {
      value = apply<Op, C>(value, cast<C>(source[n][e]));
    }
    result[e] = value;
  }
}

// y[r][c] = the sum, maximum or minimum over the taps of position r of channel c, for positions begin to end.
template <reduce_op Op, typename C, typename X, typename Y>
inline void pool(rows<X> x, const window_map& map, X fill, std::size_t begin, std::size_t end, rows<Y> y) {
  constexpr binary_op step = binary_of(Op);
  X outside[block_events];
  fill_row(fill, outside);
  for (std::size_t r = begin; r < end; ++r) {
    const std::int32_t* pixel = map.pixel.data() + r * map.taps;
    for (std::size_t c = 0; c < map.channels; ++c) {
      const auto row = [&](std::size_t t) {
        return pixel[t] < 0 ? outside : x[static_cast<std::size_t>(pixel[t]) * map.channels + c];
      };
      C result[block_events];
      std::size_t t = 1;
      if (map.taps < 4) {
        const X* const one[1] = {row(0)};
        combine<step, 1, true>(one, result);
      } else {
        const X* const four[4] = {row(0), row(1), row(2), row(3)};
        combine<step, 4, true>(four, result);
        t = 4;
      }
      for (; t + 4 <= map.taps; t += 4) {
        const X* const four[4] = {row(t), row(t + 1), row(t + 2), row(t + 3)};
        combine<step, 4, false>(four, result);
      }
      for (; t < map.taps; ++t) {
        const X* const one[1] = {row(t)};
        combine<step, 1, false>(one, result);
      }
      Y* __restrict__ to = y[r * map.channels + c];
      for (std::size_t e = 0; e < block_events; ++e) {
        to[e] = cast<Y>(result[e]);
      }
    }
  }
}

}  // namespace metronn

#endif  // METRONN_WINDOW_HPP
