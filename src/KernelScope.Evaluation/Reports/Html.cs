using System.Globalization;
using KernelScope.Sae;

namespace KernelScope.Evaluation;

/// <summary>Text that is safe in HTML.</summary>
internal static class Html
{
    /// <summary>Names, paths and texts come from strangers. Control characters, which HTML does not allow, are shown by their pictures.</summary>
    public static string Escape(string text)
    {
        string encoded = System.Net.WebUtility.HtmlEncode(text);
        return encoded.Any(IsForbidden) ? new string([.. encoded.Select(c => IsForbidden(c) ? Picture(c) : c)]) : encoded;
    }

    private static bool IsForbidden(char c) => char.IsControl(c) && c is not ('\t' or '\n');

    private static char Picture(char c) => c < ' ' ? (char)('\u2400' + c) : c == '\u007F' ? '\u2421' : '\uFFFD';

    /// <summary>A path without what is the same for all: <c>layer_20/width_16k/average_l0_71</c> of a Gemma Scope file's.</summary>
    public static string ShortName(string name)
    {
        const int Parts = 3;
        string[] parts = name.Split('/', '\\');
        if (parts is [_, .., SaeCheckpoint.ParamsName])
            parts = parts[..^1];
        return parts.Length > Parts ? string.Join('/', parts[^Parts..]) : string.Join('/', parts);
    }

    /// <summary>Four significant digits; a dash where there is no number.</summary>
    public static string Number(double value) => !double.IsFinite(value) ? "–"
        : value == 0 ? "0"
        : Math.Abs(value) is >= 1e5 or < 1e-4 ? value.ToString("0.###e0", CultureInfo.InvariantCulture)
        : ((double)(decimal)Math.Round(value, Math.Clamp(3 - (int)Math.Floor(Math.Log10(Math.Abs(value))), 0, 12))).ToString(
            "0.############", CultureInfo.InvariantCulture);
}
