using System.Buffers;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace KernelScope.Hub;

/// <summary>The checksum that a hub's ETag is: the SHA-256 of a large file (LFS), or git's SHA-1 of a small one, over "blob LENGTH\0" and the bytes.</summary>
internal sealed class HubHash : IDisposable
{
    private static readonly SearchValues<char> HexDigits = SearchValues.Create("0123456789abcdef");
    private readonly IncrementalHash _hash;
    private readonly byte[] _prefix;

    public HubHash(string etag, long size)
    {
        IsSha256 = etag.Length == 64;
        _prefix = IsSha256 ? [] : Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"blob {size}\0"));
        // The name of a git object, not a defence: what a server says of its files is believed or not, whatever the hash.
#pragma warning disable CA5350
        _hash = IncrementalHash.CreateHash(IsSha256 ? HashAlgorithmName.SHA256 : HashAlgorithmName.SHA1);
#pragma warning restore CA5350
        _hash.AppendData(_prefix);
    }

    public bool IsSha256 { get; }

    public string Name => IsSha256 ? "SHA-256" : "git SHA-1";

    /// <summary>Whether an ETag is one of the two, in lower case.</summary>
    public static bool IsOne(string etag) => etag.Length is 40 or 64 && !etag.AsSpan().ContainsAnyExcept(HexDigits);

    public void Append(ReadOnlySpan<byte> bytes) => _hash.AppendData(bytes);

    public void Restart()
    {
        _hash.GetHashAndReset();
        _hash.AppendData(_prefix);
    }

    public string Finish() => Convert.ToHexStringLower(_hash.GetHashAndReset());

    public void Dispose() => _hash.Dispose();
}
