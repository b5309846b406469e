using System.Buffers.Text;
using System.Globalization;

namespace KernelScope.Hub.Catalog;

/// <summary>
/// The SAEs that Gemma Scope published, by name: 2,430 paths in nine repositories, compiled in. A hint and not the truth: a repository may hold more (transcoders of other L0s), and a file
/// decides for itself what it is.
/// <para>
/// Canonical is SAELens' word for one SAE of each release, layer and width: the one whose L0 is nearest to 100. There are 429; the transcoders, the embeddings, 2b-pt-res at 131k and 9b-pt-res at
/// 262k have none. Two ties (9b-pt-att, layer 27, 16k: 64 and 136; layer 23, 131k: 66 and 134) are decided as SAELens decides them: 136, and 66.
/// </para>
/// </summary>
/// <remarks>Any number of threads may call it.</remarks>
/// <example>
/// <code>
/// foreach (ReleasedSae released in ReleaseCatalog.Find(new ReleaseFilter { Layer = 20, Width = "16k" }))
///     Console.WriteLine($"{released.Name}: L0 {released.L0}");
/// </code>
/// </example>
public static partial class ReleaseCatalog
{
    private const int CanonicalL0 = 100;
    private static readonly Lazy<IReadOnlyList<ReleasedSae>> Entries = new(() => Unpack());
    private static readonly Lazy<Dictionary<string, ReleasedSae>> ByName = new(() => All.ToDictionary(s => s.Name, StringComparer.Ordinal));

    /// <summary>All of them: by release, width, layer and L0.</summary>
    public static IReadOnlyList<ReleasedSae> All => Entries.Value;

    /// <summary>Those that a filter asks for.</summary>
    public static IEnumerable<ReleasedSae> Find(ReleaseFilter filter)
    {
        ArgumentNullException.ThrowIfNull(filter);
        return All.Where(filter.Matches);
    }

    private static List<ReleasedSae> Unpack()
    {
        var all = new List<ReleasedSae>(2430);
        ReadOnlySpan<byte> text = Packed;
        foreach (Range line in text.Split((byte)'\n'))
            UnpackLine(text[line], all);
        return all;
    }

    // "2b-pt-res 16k 0:13 25 46 105 226,1:10 20": the first two words, then groups.
    private static void UnpackLine(ReadOnlySpan<byte> line, List<ReleasedSae> all)
    {
        string name = "gemma-scope-" + Ascii(Word(ref line, ' ')), width = Ascii(Word(ref line, ' ')),
            word = name[(name.LastIndexOf('-') + 1)..];
        bool hasCanonical = !width.EndsWith('!');
        foreach (Range range in line.Split((byte)','))
        {
            ReadOnlySpan<byte> group = line[range];
            ReadOnlySpan<byte> where = Word(ref group, ':');
            int layer = where[0] == 'E' ? -1 : Number(where);
            UnpackGroup(group,
                new ReleasedSae(name, layer < 0 ? ReleaseKind.Embedding
                    : ReleasedSae.KindOf(word), layer, width.TrimEnd('!'), 0, false, true, null), hasCanonical, all);
        }
    }

    private static void UnpackGroup(ReadOnlySpan<byte> group, ReleasedSae template, bool hasCanonical, List<ReleasedSae> all)
    {
        int best = -1;
        while (!group.IsEmpty)
        {
            ReadOnlySpan<byte> item = Word(ref group, ' ');
            int l0 = Number(item);
            if (best < 0 || item.Contains((byte)'*') || Math.Abs(l0 - CanonicalL0) < Math.Abs(all[best].L0 - CanonicalL0))
                best = all.Count;
            all.Add(template with
            {
                L0 = l0,
                NeuronpediaId = item.Contains((byte)'\'')
                ? string.Create(CultureInfo.InvariantCulture, $"{NeuronpediaPage(template)}__l0-{l0}") : null
            });
        }

        // Of transcoders, of which the directory lists one a layer, that one has the page.
        bool hasPage = hasCanonical || template.Kind == ReleaseKind.Transcoder;
        if (hasPage)
            all[best] = all[best] with { IsCanonical = hasCanonical, NeuronpediaId = NeuronpediaPage(template) };
    }

    private static ReadOnlySpan<byte> Word(ref ReadOnlySpan<byte> text, char end)
    {
        int at = text.IndexOf((byte)end);
        ReadOnlySpan<byte> word = at < 0 ? text : text[..at];
        text = at < 0 ? default : text[(at + 1)..];
        return word;
    }

    private static int Number(ReadOnlySpan<byte> digits)
    {
        // Marks may follow.
        return Utf8Parser.TryParse(digits, out int number, out _) ? number
            : throw new InvalidOperationException("The packed catalogue is damaged.");
    }

    private static string Ascii(ReadOnlySpan<byte> text) => System.Text.Encoding.ASCII.GetString(text);
}
