#![no_main]
aeolian_fuzz::target!(aeolian_harp::damaged::elements, aeolian_harp::damaged::texts);
