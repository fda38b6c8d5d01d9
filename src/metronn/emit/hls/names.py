"""C++ names for the values of a graph: the source layer's name, made legal and kept apart from all others."""

from __future__ import annotations

import re
from collections.abc import Iterable

DERIVED = (
    "", "_t", "_cfg", "_weight", "_bias", "_table", "_values", "_index", "_shift", "_x_index", "_x_shift", "_y_index",
    "_y_shift", "_lo", "_hi", "_aligned", "_aligned_t", "_adders",
)  # fmt: skip
"""What the emitter may append to a value's name."""

WORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t class compl const
const_cast constexpr continue decltype default delete do double dynamic_cast else enum explicit export extern
false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq
private protected public register reinterpret_cast return short signed sizeof static static_assert static_cast
struct switch template this thread_local throw true try typedef typeid typename union unsigned using virtual void
volatile wchar_t while xor xor_eq NULL EOF INLINE BUFSIZ RAND_MAX assert errno stdin stdout stderr linux unix
major minor main std metronn size_t ssize_t ptrdiff_t max_align_t nullptr_t time_t clock_t timer_t clockid_t off_t
pid_t uid_t gid_t id_t key_t mode_t dev_t ino_t nlink_t fpos_t div_t ldiv_t lldiv_t wint_t wctype_t mbstate_t
locale_t float_t double_t caddr_t daddr_t register_t loff_t quad_t u_quad_t fsid_t sigset_t fd_set_t suseconds_t
useconds_t blksize_t blkcnt_t fsblkcnt_t fsfilcnt_t pthread_t int8_t int16_t int32_t int64_t uint8_t uint16_t
uint32_t uint64_t intmax_t uintmax_t intptr_t uintptr_t u_int8_t u_int16_t u_int32_t u_int64_t int_fast8_t
int_fast16_t int_fast32_t int_fast64_t int_least8_t int_least16_t int_least32_t int_least64_t uint_fast8_t
uint_fast16_t uint_fast32_t uint_fast64_t uint_least8_t uint_least16_t uint_least32_t uint_least64_t
error_t stack_t sig_t sigval_t siginfo_t sigevent_t sighandler_t sig_atomic_t ucontext_t mcontext_t greg_t gregset_t
fpregset_t fenv_t femode_t fexcept_t imaxdiv_t wctrans_t char8_t comparison_fn_t socklen_t cpu_set_t ino64_t off64_t
fpos64_t blkcnt64_t fsblkcnt64_t fsfilcnt64_t cookie_io_functions_t
"""
TAKEN = frozenset(WORDS.split())
"""Words of the language, macros, and types of the C library, which a derived name could meet."""


class Names:
    """Hands out identifiers so that no two, nor anything derived from them, are the same.

    Nor do two differ by case only: headers, which are named after them, and their guards would be one.
    """

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._taken: frozenset[str] = TAKEN.union(reserved)
        self._claimed: set[str] = set()
        self._names: dict[str, str] = {}

    def claim(self, key: str, wanted: str) -> str:
        """Return the identifier of `key`, on the first call made from `wanted`."""
        if key not in self._names:
            base = identifier(wanted)
            name, count = base, 1
            while any(name + suffix in self._taken or (name + suffix).lower() in self._claimed for suffix in DERIVED):
                count += 1
                name = f"{base}_{count}"
            self._claimed.update((name + suffix).lower() for suffix in DERIVED)
            self._names[key] = name
        return self._names[key]

    def alias(self, key: str, name: str) -> None:
        """Let a key share an identifier that was claimed for another."""
        self._names[key] = name

    def __contains__(self, key: object) -> bool:
        """Whether a key was claimed."""
        return key in self._names

    def __getitem__(self, key: str) -> str:
        """Return the identifier of a key that was claimed."""
        return self._names[key]


def identifier(text: str) -> str:
    """Return a legal C++ identifier close to `text`, without the underscores that the standard reserves."""
    cleaned = re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9]", "_", text)).strip("_") or "value"
    return cleaned if not cleaned[0].isdigit() else f"v{cleaned}"
