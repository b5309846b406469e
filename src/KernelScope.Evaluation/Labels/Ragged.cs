using System.Text;

namespace KernelScope.Evaluation;

/// <summary>Lists of different lengths, one behind the other: list i is what lies between the ends of list i − 1 and its own.</summary>
/// <param name="Ends">Where each list ends.</param>
/// <param name="Values">All values.</param>
internal readonly record struct Ragged<T>(ReadOnlyMemory<int> Ends, ReadOnlyMemory<T> Values)
    where T : unmanaged
{
    public int Count => Ends.Length;

    public ReadOnlySpan<T> this[int list] => Values.Span[(list == 0 ? 0 : Ends.Span[list - 1])..Ends.Span[list]];

    /// <summary>Whether the ends ascend to the end of the values.</summary>
    public bool IsSound
    {
        get
        {
            int last = 0;
            foreach (int end in Ends.Span)
            {
                if (end < last)
                    return false;
                last = end;
            }

            return last == Values.Length;
        }
    }
}

/// <summary>Makes lists one after the other.</summary>
internal sealed class RaggedBuilder<T>
    where T : unmanaged
{
    private readonly List<int> _ends = [];
    private readonly List<T> _values = [];

    public void Add(ReadOnlySpan<T> list)
    {
        _values.AddRange(list);
        _ends.Add(_values.Count);
    }

    public Ragged<T> ToRagged() => new(_ends.ToArray(), _values.ToArray());
}

/// <summary>Lists of bytes that are texts.</summary>
internal static class RaggedTexts
{
    public static void Add(this RaggedBuilder<byte> texts, ReadOnlySpan<char> text)
    {
        int most = Encoding.UTF8.GetMaxByteCount(text.Length);
        Span<byte> bytes = most <= 2048 ? stackalloc byte[2048] : new byte[most];
        texts.Add(bytes[..Encoding.UTF8.GetBytes(text, bytes)]);
    }

    public static string Text(this Ragged<byte> texts, int list) => Encoding.UTF8.GetString(texts[list]);
}
