//! `aeolian selftest`: every public operation on the wires in use.

/// Runs as a rank of whatever launched it.
pub(crate) fn main(repeat: u32) -> u8 {
    aeolian::run(|world| {
        if world.rank() == 0 {
            let ranks: Vec<_> = world.layout().hosts.iter().map(String::as_str).collect();
            println!(
                "aeolian selftest: {} ranks on {} ({}), transport {}",
                world.size(),
                if ranks.len() == 1 { "1 node".into() } else { format!("{} nodes", ranks.len()) },
                ranks.join(", "),
                world.transport()
            );
            let tuning: Vec<_> =
                world.tuning().iter().map(|(name, value)| format!("{name} {value}")).collect();
            if !tuning.is_empty() {
                println!("  tuned: {}", tuning.join(", "));
            }
        }
        for round in 0..repeat {
            aeolian::selftest::run(world, round == 0)?;
        }
        if world.rank() == 0 {
            println!("selftest passed");
        }
        Ok(())
    })
}
