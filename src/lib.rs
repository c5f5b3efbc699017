//! Front door.

pub use aeolian_harp as harp;
pub use aeolian_net as net;
pub use aeolian_net::World;
