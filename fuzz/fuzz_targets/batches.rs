#![no_main]
aeolian_fuzz::target!(
    aeolian_ops::damaged::strings,
    aeolian_ops::damaged::vectors,
    aeolian_ops::damaged::options,
    aeolian_ops::damaged::tuples,
    aeolian_ops::damaged::serde_types
);
