using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using KernelScope.Hooks;

namespace KernelScope.Cli;

/// <summary>Reads what stands in an option, with complaints that say what was expected.</summary>
internal static class Parsing
{
    /// <summary>Complains unless an option's value is allowed; <c>{0}</c> in the complaint is what was typed.</summary>
    public static void Require<T>(OptionResult result, Option<T> option, Func<T, bool> allowed, string complaint)
    {
        if (result.Tokens.Count == 0)
            return;
        string typed = Printable.Escape(result.Tokens[0].Value);
        try
        {
            if (result.GetValue(option) is { } value && !allowed(value))
                result.AddError(complaint.Replace("{0}", typed, StringComparison.Ordinal));
        }
        catch (InvalidOperationException)
        {
            // The parser's way to say that the words are not of the option's type.
            result.AddError(WrongType(option, result.Tokens[0].Value));
        }
    }

    /// <summary>That what was typed is not a number of an option's type.</summary>
    public static string WrongType(Option option, string typed)
    {
        string advice = IsDecimal(option) && typed.Contains(',', StringComparison.Ordinal) ? " The decimal mark is a point." : "";
        return $"{option.Name} needs {(IsDecimal(option) ? "a number" : "a whole number")}; " +
            $"'{Printable.Escape(typed)}' is none that it can take.{advice}";
    }

    /// <summary>That an option's value is not a decimal number, for the parser reads 1,5 as 15; null if it is, or need not be.</summary>
    public static string? NotADecimal(OptionResult given) => !IsDecimal(given.Option) ? null
        : given.Tokens.Where(t => !double.TryParse(t.Value, NumberStyles.Float, CultureInfo.InvariantCulture, out _))
            .Select(t => WrongType(given.Option, t.Value)).FirstOrDefault();

    private static bool IsDecimal(Option option) =>
        (Nullable.GetUnderlyingType(option.ValueType) ?? option.ValueType) == typeof(double);

    /// <summary>Token ids, separated by commas. Whether they are in a vocabulary is not known here.</summary>
    /// <exception cref="UsageException">It is not such a list, or it is empty.</exception>
    public static long[] TokenIds(string text, string option)
    {
        string[] words = text.Split(',');
        long[] ids = new long[words.Length];
        for (int i = 0; i < words.Length; i++)
        {
            string word = words[i].Trim();
            if (!long.TryParse(word, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out ids[i]))
                throw new UsageException($"{option} needs token ids with commas between them, such as " +
                    $"2,5,7; {(word.Length == 0 ? "a number is missing" : $"'{Printable.Escape(word)}' is not a number")}.");
        }

        return ids;
    }

    /// <summary>A feature's index and a value, as in <c>1738=-15</c>.</summary>
    /// <exception cref="UsageException">It is none.</exception>
    public static (int Feature, float Value) FeatureValue(string text, string option)
    {
        int equals = text.IndexOf('=', StringComparison.Ordinal);
        if (equals < 0 || !float.TryParse(text.AsSpan(equals + 1), NumberStyles.Float, CultureInfo.InvariantCulture, out float value)
            || !float.IsFinite(value))
            throw new UsageException($"{option} needs a feature and a number, such as {option} 1738=-15; this is " +
            $"'{Printable.Escape(text)}'.");
        return (Feature(text[..equals], option), value);
    }

    /// <summary>A feature's index.</summary>
    /// <exception cref="UsageException">It is not a whole number.</exception>
    public static int Feature(string text, string option) =>
        int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int feature)
            ? feature
            : throw new UsageException($"{option} needs the index of a feature; '{Printable.Escape(text)}' is none.");

    /// <summary>A hook point.</summary>
    /// <exception cref="UsageException">It is none.</exception>
    public static HookPoint Point(string text, string option)
    {
        try
        {
            return HookPoint.Parse(text);
        }
        catch (FormatException e)
        {
            throw new UsageException($"{option}: {e.Message}");
        }
    }
}
