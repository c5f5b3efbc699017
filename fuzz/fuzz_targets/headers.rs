#![no_main]
aeolian_fuzz::target!(aeolian_net::damaged::headers);
