//! LOC records (RFC 1876): locations on Earth.

/// Wire format of `52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m`.
///
/// # Errors
/// Which part is invalid.
pub(super) fn wire(parts: &[String]) -> Result<Vec<u8>, String> {
    let mut rest = parts;
    let latitude = angle(&mut rest, "latitude", 90, ['N', 'S'])?;
    let longitude = angle(&mut rest, "longitude", 180, ['E', 'W'])?;
    let metres = |at: usize, default: f64| match rest.get(at) {
        None => Ok(default),
        Some(text) => text
            .trim_end_matches(['m', 'M'])
            .parse::<f64>()
            .map_err(|_| format!("\"{text}\" is not a length in metres")),
    };
    if rest.is_empty() || rest.len() > 4 {
        return Err("an altitude, and up to three sizes, must follow the position".to_owned());
    }
    // The defaults of the RFC: a metre, 10 km, 10 m.
    let (size, horizontal, vertical) = (metres(1, 1.0)?, metres(2, 10_000.0)?, metres(3, 10.0)?);
    let altitude = (metres(0, 0.0)? * 100.0).round() + 10_000_000.0;
    if !(0.0..=f64::from(u32::MAX)).contains(&altitude) {
        return Err("the altitude is out of range".to_owned());
    }
    let mut wire = vec![0, precision(size)?, precision(horizontal)?, precision(vertical)?];
    wire.extend(latitude.to_be_bytes());
    wire.extend(longitude.to_be_bytes());
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "its range was looked at")]
    wire.extend((altitude as u32).to_be_bytes());
    Ok(wire)
}

/// Degrees, minutes, seconds and a direction, as thousandths of a second from 2^31.
fn angle(rest: &mut &[String], what: &str, most: u32, directions: [char; 2]) -> Result<u32, String> {
    let wrong = || format!("the {what} is wrong");
    let end = rest
        .iter()
        .take(4)
        .position(|p| p.len() == 1 && directions.iter().any(|d| p.eq_ignore_ascii_case(&d.to_string())));
    let end = end.filter(|end| *end > 0).ok_or_else(wrong)?;
    let (numbers, after) = rest.split_at(end);
    let is_negative = after[0].eq_ignore_ascii_case(&directions[1].to_string());
    *rest = &after[1..];
    let whole = |at: usize, below: u32| match numbers.get(at) {
        None => Ok(0),
        Some(text) => text.parse::<u32>().ok().filter(|n| *n <= below).ok_or_else(wrong),
    };
    let (degrees, minutes) = (whole(0, most)?, whole(1, 59)?);
    let seconds = match numbers.get(2) {
        None => 0.0,
        Some(text) => text.parse::<f64>().ok().filter(|s| (0.0..60.0).contains(s)).ok_or_else(wrong)?,
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 60,000")]
    let thousandths = (degrees * 3600 + minutes * 60) * 1000 + (seconds * 1000.0).round() as u32;
    if thousandths > most * 3_600_000 {
        return Err(wrong());
    }
    Ok(if is_negative { (1 << 31) - thousandths } else { (1 << 31) + thousandths })
}

/// A length as a digit and a power of ten, in centimetres.
fn precision(metres: f64) -> Result<u8, String> {
    let centimetres = (metres * 100.0).round();
    if !(0.0..=9e9).contains(&centimetres) {
        return Err("a size is out of range".to_owned());
    }
    let (mut mantissa, mut power) = (centimetres, 0u8);
    while mantissa >= 10.0 {
        mantissa = (mantissa / 10.0).floor();
        power += 1;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below ten")]
    Ok(((mantissa as u8) << 4) | power)
}
