using System.Globalization;

namespace KernelScope.Cli;

/// <summary>Hook points of several layers in one word: <c>resid_post.*</c>, <c>resid_post.0-5</c>, <c>blocks.*.hook_resid_post</c>.</summary>
internal static class LayerRange
{
    private const string Blocks = "blocks.";

    /// <summary>The names that a word stands for; a word without a range stands for itself.</summary>
    /// <exception cref="UsageException">The range is empty.</exception>
    public static IEnumerable<string> Expand(string word, int layerCount)
    {
        // The layer comes last in our names, and after "blocks." in TransformerLens'.
        bool isInBlocks = word.StartsWith(Blocks, StringComparison.Ordinal) && word.IndexOf('.', Blocks.Length) > 0;
        int start = isInBlocks ? Blocks.Length : word.LastIndexOf('.') + 1;
        int end = isInBlocks ? word.IndexOf('.', start) : word.Length;
        if (start < 2)
            return [word];
        string before = word[..start], layers = word[start..end], after = word[end..];
        if (layers == "*")
            return Names(before, 0, layerCount - 1, after);
        string[] ends = layers.Split('-');
        if (ends.Length != 2 || !Number(ends[0], out int first) || !Number(ends[1], out int last))
            return [word];
        return first <= last
            ? Names(before, first, last, after)
            : throw new UsageException($"'{Printable.Escape(word)}' names no layer: {first} is above {last}.");
    }

    // A range that ends far beyond the model must not be written out; its first layer too many says what is wrong.
    private static IEnumerable<string> Names(string before, int first, int last, string after) =>
        Enumerable.Range(first, last - first + 1).Select(l => string.Create(CultureInfo.InvariantCulture, $"{before}{l}{after}"));

    private static bool Number(string text, out int number) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number);
}
