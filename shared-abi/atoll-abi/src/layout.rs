//! Field tables of the shared structs, from which `ABI.md` and the layout tests are made.

/// One field of a shared struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: &'static str,
    pub offset: usize,
    pub size: usize,
    pub meaning: &'static str,
}

/// One shared struct.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub name: &'static str,
    pub size: usize,
    pub fields: &'static [Field],
}

/// The size of a field, taken from its type by inference: `offset_of!` has no counterpart for sizes.
#[doc(hidden)]
pub const fn field_size<S, F>(_: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// Writes down the layout of a `repr(C)` struct, with a meaning for each field.
macro_rules! layout {
    ($ty:ty { $($field:ident : $meaning:literal),+ $(,)? }) => {
        impl $ty {
            /// The layout of this struct on the wire.
            pub const LAYOUT: $crate::layout::Layout = $crate::layout::Layout {
                name: stringify!($ty),
                size: size_of::<$ty>(),
                fields: &[$($crate::layout::Field {
                    name: stringify!($field),
                    offset: core::mem::offset_of!($ty, $field),
                    size: $crate::layout::field_size::<$ty, _>(|s| &s.$field),
                    meaning: $meaning,
                }),+],
            };
        }
    };
}
pub(crate) use layout;

/// A fieldless enum with fixed numbers, its decoder and its table for `ABI.md`.
macro_rules! numbered {
    ($(#[$meta:meta])* $vis:vis enum $name:ident : $repr:ident as $field:literal {
        $($(#[doc = $doc:literal])+ $variant:ident = $value:literal),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[repr($repr)]
        $vis enum $name {
            $($(#[doc = $doc])+ $variant = $value),+
        }

        impl $name {
            /// All values, in numeric order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// Number, name and meaning of each value.
            pub const TABLE: &'static [(u64, &'static str, &'static str)] =
                &[$(($value, stringify!($variant), concat!($($doc),+))),+];

            pub const fn number(self) -> $repr {
                self as $repr
            }
        }

        impl TryFrom<$repr> for $name {
            type Error = $crate::WireError;

            fn try_from(value: $repr) -> Result<Self, Self::Error> {
                match value {
                    $($value => Ok(Self::$variant),)+
                    other => Err($crate::WireError::BadValue { field: $field, value: u64::from(other) }),
                }
            }
        }
    };
}
pub(crate) use numbered;
