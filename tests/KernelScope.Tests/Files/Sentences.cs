using System.Globalization;

namespace KernelScope.Tests.Files;

/// <summary>What every refusal must be: one line that names the file, fit for a terminal, of a readable length.</summary>
internal static class Sentences
{
    public static void Check(string message, string path)
    {
        Assert.Contains(path, message, StringComparison.Ordinal);
        string rest = message.Replace(path, "", StringComparison.Ordinal);
        Assert.InRange(rest.Length, 10, 600);
        Assert.EndsWith(".", message, StringComparison.Ordinal);
        Assert.DoesNotContain(rest, c => char.IsControl(c)
            || char.GetUnicodeCategory(c) is UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator);
        Assert.DoesNotContain("Exception", message, StringComparison.Ordinal);
        Assert.DoesNotContain(" at KernelScope", message, StringComparison.Ordinal);
    }
}
