//! The pages of the book whose code is compiled.
