//! harp
