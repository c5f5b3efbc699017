//! The whole algorithm on ranks as threads.
