using System.Globalization;

namespace KernelScope.Cli;

/// <summary>Sizes and times for people: decimal units, as disks and networks have them.</summary>
internal static class ByteText
{
    private static readonly string[] Units = ["B", "kB", "MB", "GB", "TB"];

    /// <summary>Three digits and a unit: 302 MB, 1.21 GB.</summary>
    public static string Of(double bytes)
    {
        int unit = 0;
        // 999.5 would be shown as 1000.
        for (; bytes >= 999.5 && unit < Units.Length - 1; unit++)
            bytes /= 1000;
        string digits = unit == 0 ? "0" : bytes < 9.995 ? "0.00" : bytes < 99.95 ? "0.0" : "0";
        return $"{bytes.ToString(digits, CultureInfo.InvariantCulture)} {Units[unit]}";
    }

    /// <summary>0:07, 12:30, 3:05:00.</summary>
    public static string Of(TimeSpan time) => time.TotalHours >= 1
        ? string.Create(CultureInfo.InvariantCulture, $"{(int)time.TotalHours}:{time.Minutes:00}:{time.Seconds:00}")
        : string.Create(CultureInfo.InvariantCulture, $"{time.Minutes}:{time.Seconds:00}");
}
