namespace KernelScope.Generation;

/// <summary>Finds stop strings in a text that comes in pieces. What may yet become one is held back, so that nothing of a stop string is ever given out.</summary>
internal sealed class StopText
{
    private readonly string[] _stops;
    private string _held = "";

    public StopText(IReadOnlyCollection<string> stops)
    {
        _stops = [.. stops];
        if (Array.Exists(_stops, string.IsNullOrEmpty))
            throw new ArgumentException("A stop string is empty; it would end every text at once.");
    }

    /// <summary>Whether a stop string has come; the text ends before it.</summary>
    public bool Found { get; private set; }

    /// <summary>Takes the next piece; returns what is certainly text before any stop string.</summary>
    public string Append(string piece)
    {
        if (Found)
            return "";
        string text = _held + piece;
        int first = text.Length;
        foreach (string stop in _stops)
        {
            int at = text.IndexOf(stop, StringComparison.Ordinal);
            if (at >= 0 && at < first)
                (first, Found) = (at, true);
        }

        int certain = Found ? first : text.Length - Beginning(text);
        _held = Found ? "" : text[certain..];
        return text[..certain];
    }

    /// <summary>Ends the text: what was held back did not become a stop string.</summary>
    public string Flush()
    {
        string held = _held;
        _held = "";
        return held;
    }

    /// <summary>Length of the longest end of a text that a stop string begins with.</summary>
    private int Beginning(string text)
    {
        int longest = 0;
        foreach (string stop in _stops)
        {
            for (int length = Math.Min(stop.Length - 1, text.Length); length > longest; length--)
            {
                if (text.AsSpan(text.Length - length).SequenceEqual(stop.AsSpan(0, length)))
                    longest = length;
            }
        }

        return longest;
    }
}
