//! Whole numbers of the command line.

/// A whole number that is not negative. (An option that takes it also has `allow_negative_numbers`: else `-1` is taken for another option.)
///
/// # Errors
/// What is wrong with the text.
///
/// ```
/// use aeolian_examples::whole::whole;
/// assert_eq!(whole("17"), Ok(17u32));
/// assert_eq!(whole::<u32>("1e6").unwrap_err(), "give a whole number up to 4294967295, in digits");
/// assert_eq!(whole::<u32>("-1").unwrap_err(), "it must not be negative");
/// ```
pub fn whole<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    let is_negative =
        text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if is_negative {
        return Err("it must not be negative".into());
    }
    text.parse().map_err(|_| {
        let most = u64::MAX >> (64 - 8 * size_of::<T>().min(8));
        format!("give a whole number up to {most}, in digits")
    })
}
