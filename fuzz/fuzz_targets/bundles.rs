#![no_main]
aeolian_fuzz::target!(aeolian_harp::damaged::bundles);
