//! The architecture: state, decode, meaning and the interpreter.
