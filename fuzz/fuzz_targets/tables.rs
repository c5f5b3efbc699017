#![no_main]
aeolian_fuzz::target!(
    aeolian_harp::damaged::arrays,
    aeolian_harp::damaged::values,
    aeolian_harp::damaged::long
);
