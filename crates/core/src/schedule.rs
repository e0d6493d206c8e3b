//! Schedules: five fields as in cron, and `#n` for the nth weekday of the month. They are only checked here: nothing in
//! this library runs them.

/// One field: its name, its lowest and highest number, and names for the numbers from the lowest on.
struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", low: 0, high: 59, names: &[] },
    Field { name: "hour", low: 0, high: 23, names: &[] },
    Field { name: "day of month", low: 1, high: 31, names: &[] },
    Field {
        name: "month",
        low: 1,
        high: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    // 7 is also Sunday.
    Field { name: "day of week", low: 0, high: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

const WEEKDAY: usize = 4;

/// Checks a schedule: five fields, or a name like `@daily`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check(text: &str) -> Result<(), String> {
    if ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"].contains(&text.trim()) {
        return Ok(());
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "a schedule has five fields (minute, hour, day of month, month, day of week), as in \"30 3 * * *\"; \"{text}\" has {}",
            fields.len()
        ));
    }
    for (index, (text, field)) in fields.iter().zip(&FIELDS).enumerate() {
        for part in text.split(',') {
            check_part(part, field, index == WEEKDAY).map_err(|why| format!("its {} \"{text}\" {why}", field.name))?;
        }
    }
    Ok(())
}

fn check_part(part: &str, field: &Field, is_weekday: bool) -> Result<(), String> {
    if let Some((day, nth)) = part.split_once('#') {
        if !is_weekday {
            return Err("has a #, which only a day of the week can have".to_owned());
        }
        number(day, field)?;
        return match nth.parse::<u32>() {
            Ok(1..=5) => Ok(()),
            _ => Err("needs a number from 1 to 5 after the #".to_owned()),
        };
    }
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    match step.map(str::parse::<u32>) {
        None => {}
        Some(Ok(n)) if n > 0 && n <= field.high => {}
        Some(_) => return Err(format!("needs a number from 1 to {} after the /", field.high)),
    }
    if range == "*" {
        return Ok(());
    }
    match range.split_once('-') {
        Some((from, to)) if number(from, field)? > number(to, field)? => {
            Err("has a range that ends before it begins".to_owned())
        }
        Some(_) => Ok(()),
        None => number(range, field).map(drop),
    }
}

fn number(text: &str, field: &Field) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(index) = field.names.iter().position(|n| *n == lower) {
        return Ok(field.low + u32::try_from(index).unwrap_or_default());
    }
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(n) if digits && (field.low..=field.high).contains(&n) => Ok(n),
        _ => Err(format!("is not a number from {} to {}", field.low, field.high)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read() {
        for text in
            ["30 3 * * *", "0 6 * * 0#1", "*/15 0-6,22 1,15 jan-MAR mon-fri", "0 0 * * 7", "@daily", " 5 4 * * sun "]
        {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_typo_says_which_field_it_is_in() {
        for (text, why) in [
            ("30 3 * *", "has 4"),
            ("60 3 * * *", "its minute \"60\" is not a number from 0 to 59"),
            ("0 3 0 * *", "its day of month"),
            ("0 3 * foo *", "its month"),
            ("0 3 * * 0#6", "from 1 to 5 after the #"),
            ("0#1 3 * * *", "only a day of the week"),
            ("*/0 3 * * *", "after the /"),
            ("5-1 3 * * *", "ends before it begins"),
            ("+5 3 * * *", "its minute"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
