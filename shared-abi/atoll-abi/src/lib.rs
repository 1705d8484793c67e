//! What crosses a process boundary: types only.
