// Exact integers of any fixed width, and conversions between them and the built-in ones.
//
// Signed right shift is arithmetic and narrowing keeps the low bits, as in GCC and Clang on every target.
#ifndef METRONN_INTEGER_HPP
#define METRONN_INTEGER_HPP

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace metronn {

__extension__ typedef __int128 int128;
__extension__ typedef unsigned __int128 uint128;

// A two's complement integer of 64 * N bits; limb[0] is the lowest. Arithmetic wraps at that width.
template <std::size_t N>
struct wide {
  static_assert(N >= 2, "wide: a single limb is std::int64_t");
  std::uint64_t limb[N];
};

template <typename T>
struct is_wide : std::false_type {};
template <std::size_t N>
struct is_wide<wide<N>> : std::true_type {};

template <std::size_t N>
inline std::uint64_t sign_fill(const wide<N>& a) {
  return (a.limb[N - 1] >> 63) != 0 ? ~std::uint64_t{0} : std::uint64_t{0};
}

template <std::size_t N>
inline wide<N> operator+(const wide<N>& a, const wide<N>& b) {
  wide<N> sum;
  uint128 carry = 0;
  for (std::size_t i = 0; i < N; ++i) {
    carry += static_cast<uint128>(a.limb[i]) + b.limb[i];
    sum.limb[i] = static_cast<std::uint64_t>(carry);
    carry >>= 64;
  }
  return sum;
}

template <std::size_t N>
inline wide<N> operator-(const wide<N>& a, const wide<N>& b) {
  wide<N> difference;
  uint128 carry = 1;
  for (std::size_t i = 0; i < N; ++i) {
    carry += static_cast<uint128>(a.limb[i]) + static_cast<std::uint64_t>(~b.limb[i]);
    difference.limb[i] = static_cast<std::uint64_t>(carry);
    carry >>= 64;
  }
  return difference;
}

template <std::size_t N>
inline wide<N> operator*(const wide<N>& a, const wide<N>& b) {
  wide<N> product{};
  for (std::size_t i = 0; i < N; ++i) {
    uint128 carry = 0;
    for (std::size_t j = 0; i + j < N; ++j) {
      carry += static_cast<uint128>(a.limb[i]) * b.limb[j] + product.limb[i + j];
      product.limb[i + j] = static_cast<std::uint64_t>(carry);
      carry >>= 64;
    }
  }
  return product;
}

template <std::size_t N>
inline wide<N> operator&(const wide<N>& a, const wide<N>& b) {
  wide<N> both;
  for (std::size_t i = 0; i < N; ++i) {
    both.limb[i] = a.limb[i] & b.limb[i];
  }
  return both;
}

// Arithmetic shift: floor(a / 2**bits), for any number of bits.
template <std::size_t N>
inline wide<N> operator>>(const wide<N>& a, unsigned bits) {
  const std::uint64_t fill = sign_fill(a);
  const std::size_t limbs = bits / 64;
  const unsigned rest = bits % 64;
  const auto limb_or_fill = [&](std::size_t index) { return index < N ? a.limb[index] : fill; };
  wide<N> shifted;
  for (std::size_t i = 0; i < N; ++i) {
    const std::uint64_t low = limb_or_fill(i + limbs);
    const std::uint64_t high = limb_or_fill(i + limbs + 1);
    shifted.limb[i] = rest == 0 ? low : (low >> rest) | (high << (64 - rest));
  }
  return shifted;
}

template <std::size_t N>
inline bool operator<(const wide<N>& a, const wide<N>& b) {
  const auto a_top = static_cast<std::int64_t>(a.limb[N - 1]);
  const auto b_top = static_cast<std::int64_t>(b.limb[N - 1]);
  if (a_top != b_top) {
    return a_top < b_top;
  }
  for (std::size_t i = N - 1; i-- > 0;) {
    if (a.limb[i] != b.limb[i]) {
      return a.limb[i] < b.limb[i];
    }
  }
  return false;
}

// 64-bit limb `index` of any integer, sign-extended.
template <typename T>
inline std::uint64_t limb_of(const T& value, std::size_t index) {
  if constexpr (is_wide<T>::value) {
    return index < sizeof(T) / 8 ? value.limb[index] : sign_fill(value);
  } else if constexpr (sizeof(T) == 16) {
    return static_cast<std::uint64_t>(value >> (index == 0 ? 0 : index == 1 ? 64 : 127));
  } else {
    const auto whole = static_cast<std::int64_t>(value);
    return static_cast<std::uint64_t>(index == 0 ? whole : whole >> 63);
  }
}

// The same integer in another type; exact when it fits, else the low bits.
template <typename To, typename From>
inline To cast(const From& value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (is_wide<To>::value) {
    To result;
    for (std::size_t i = 0; i < sizeof(To) / 8; ++i) {
      result.limb[i] = limb_of(value, i);
    }
    return result;
  } else if constexpr (is_wide<From>::value) {
    if constexpr (sizeof(To) == 16) {
      return static_cast<To>((static_cast<uint128>(value.limb[1]) << 64) | value.limb[0]);
    } else {
      return static_cast<To>(static_cast<std::int64_t>(value.limb[0]));
    }
  } else {
    return static_cast<To>(value);
  }
}

template <typename T>
inline bool is_zero(const T& value) {
  if constexpr (is_wide<T>::value) {
    bool zero = true;
    for (const std::uint64_t limb : value.limb) {
      zero = zero && limb == 0;
    }
    return zero;
  } else {
    return value == 0;
  }
}

// An int128 from its two limbs; used by generated tables.
constexpr int128 make128(std::uint64_t high, std::uint64_t low) {
  return static_cast<int128>((static_cast<uint128>(high) << 64) | low);
}

// 2**bits. The caller guarantees that it fits T.
template <typename T>
inline T power_of_two(unsigned bits) {
  if constexpr (is_wide<T>::value) {
    T power{};
    power.limb[bits / 64] = std::uint64_t{1} << (bits % 64);
    return power;
  } else if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(std::uint64_t{1} << bits);
  } else {
    return static_cast<T>(static_cast<T>(1) << bits);
  }
}

}  // namespace metronn

#endif  // METRONN_INTEGER_HPP
