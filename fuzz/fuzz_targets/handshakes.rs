#![no_main]
aeolian_fuzz::target!(aeolian_net::transport::tcp::damaged_handshakes);
