#![no_main]
aeolian_fuzz::target!(aeolian_net::damaged::to_master, aeolian_net::damaged::to_rank);
