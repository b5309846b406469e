using System.Security.Cryptography;
using System.Text;

namespace KernelScope.Cuda.Ptx;

/// <summary>
/// The kernels that are shipped: a manifest and PTX texts, each kernel's text checked against the manifest's hash before anything is
/// loaded.
/// </summary>
/// <remarks>Any number of threads may use it.</remarks>
internal sealed class PtxImage
{
    private const string Entry = "\n.visible .entry ";
    private static readonly Lazy<PtxImage> FromResources = new(() => new PtxImage(ReadResource));

    private readonly Dictionary<string, byte[]> _texts = new(StringComparer.Ordinal);
    private readonly Dictionary<string, PtxKernelInfo> _kernels;

    /// <summary>Reads and checks an image.</summary>
    /// <param name="read">Gives the content of a file below <c>kernels/ptx</c>; null if there is none.</param>
    /// <exception cref="InvalidDataException">A file is missing, or a text is not the one that the manifest describes; the message names
    /// file, kernel and hashes.</exception>
    public PtxImage(Func<string, byte[]?> read)
    {
        ArgumentNullException.ThrowIfNull(read);
        Manifest = PtxManifest.Parse(read(PtxManifest.FileName)
            ?? throw new InvalidDataException($"kernels/ptx/{PtxManifest.FileName} is missing."));
        _kernels = Manifest.Kernels.ToDictionary(k => k.Name, StringComparer.Ordinal);
        foreach (IGrouping<(string File, PtxTarget Target, string Version), (PtxKernelInfo Kernel, PtxCode Code)> file in Manifest.Kernels
            .SelectMany(k => k.Code.Select(c => (k, c)))
            .GroupBy(p => (p.c.File, p.c.Target, p.c.PtxVersion)))
        {
            byte[] bytes = read(file.Key.File) ?? throw new InvalidDataException($"kernels/ptx/{file.Key.File} is missing.");
            CheckFile(file.Key.File, file.Key.Target, file.Key.Version, Encoding.UTF8.GetString(bytes), [.. file]);
            _texts.Add(file.Key.File, [.. bytes, 0]);
        }
    }

    /// <summary>The image inside this assembly.</summary>
    public static PtxImage Embedded => FromResources.Value;

    /// <summary>The manifest.</summary>
    public PtxManifest Manifest { get; }

    /// <summary>What the manifest says of a kernel.</summary>
    /// <exception cref="ArgumentException">There is no such kernel.</exception>
    public PtxKernelInfo Kernel(string name) =>
        _kernels.TryGetValue(name, out PtxKernelInfo? kernel) ? kernel
        : throw new ArgumentException($"There is no kernel '{name}' in kernels/ptx/{PtxManifest.FileName}.", nameof(name));

    /// <summary>A PTX file's text, UTF-8 with a zero byte at its end.</summary>
    public ReadOnlySpan<byte> Text(string file) => _texts[file];

    /// <summary>The content of an embedded file below <c>kernels/ptx</c>; null if there is none.</summary>
    public static byte[]? ReadResource(string file)
    {
        using Stream? stream = typeof(PtxImage).Assembly.GetManifestResourceStream("ptx/" + file);
        if (stream is null)
            return null;
        byte[] bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }

    private static void CheckFile(string file, PtxTarget target, string version, string text,
        (PtxKernelInfo Kernel, PtxCode Code)[] expected)
    {
        int first = text.IndexOf(Entry, StringComparison.Ordinal);
        string header = first < 0 ? text : text[..first];
        if (!header.Contains($"\n.version {version}\n", StringComparison.Ordinal)
            || !header.Contains($"\n.target {target}\n", StringComparison.Ordinal))
            throw new InvalidDataException($"kernels/ptx/{file} does not begin as PTX {version} for {target}; it is damaged or does " +
            "not belong to the manifest.");
        var found = new Dictionary<string, string>(StringComparer.Ordinal);
        while (first >= 0)
        {
            int next = text.IndexOf(Entry, first + 1, StringComparison.Ordinal);
            // A kernel's text goes from its first line to the empty line before the next.
            string body = next < 0 ? text[(first + 1)..] : text[(first + 1)..next];
            string name = body[(Entry.Length - 1)..Math.Max(Entry.Length - 1, body.IndexOf('('))];
            found[name] = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(body)));
            first = next;
        }

        foreach ((PtxKernelInfo kernel, PtxCode code) in expected)
        {
            if (!found.Remove(kernel.Name, out string? hash))
                throw new InvalidDataException($"kernels/ptx/{file} has no kernel '{kernel.Name}', which the manifest says it has.");
            if (hash != code.Sha256)
                throw new InvalidDataException($"kernels/ptx/{file} is not what the manifest describes: kernel '{kernel.Name}' has the " +
                    $"SHA-256 {hash}, expected {code.Sha256}.");
        }

        if (found.Count > 0)
            throw new InvalidDataException($"kernels/ptx/{file} has a kernel '{found.Keys.First()}' that the manifest does not know.");
    }
}
