using System.Globalization;

namespace KernelScope.Cli;

/// <summary>Hook points of several layers in one word: <c>resid_post.*</c>, <c>resid_post.0-5</c>.</summary>
internal static class LayerRange
{
    /// <summary>The names that a word stands for; a word without a range stands for itself.</summary>
    /// <exception cref="UsageException">The range is empty.</exception>
    public static IEnumerable<string> Expand(string word, int layerCount)
    {
        int dot = word.LastIndexOf('.');
        string name = word[..Math.Max(0, dot)], layers = word[(dot + 1)..];
        if (dot > 0 && layers == "*")
            return Names(name, 0, layerCount - 1);
        string[] ends = layers.Split('-');
        if (dot <= 0 || ends.Length != 2 || !Number(ends[0], out int first) || !Number(ends[1], out int last))
            return [word];
        return first <= last ? Names(name, first, last) : throw new UsageException($"'{Printable.Escape(word)}' names no layer: {first} is above {last}.");
    }

    // A range that ends far beyond the model must not be written out; its first layer too many says what is wrong.
    private static IEnumerable<string> Names(string name, int first, int last) =>
        Enumerable.Range(first, last - first + 1).Select(l => string.Create(CultureInfo.InvariantCulture, $"{name}.{l}"));

    private static bool Number(string text, out int number) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number);
}
