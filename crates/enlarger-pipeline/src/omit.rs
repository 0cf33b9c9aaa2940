//! What JSON leaves out.

/// Whether a field has its default, and is left out: for `skip_serializing_if`.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
