using KernelScope.Text;

namespace KernelScope.Samples;

/// <summary>A text becomes token ids, and ids become a text again.</summary>
internal static class Tokens
{
    public static void Main(string[] args)
    {
        GemmaTokenizer tokenizer = Demo.OpenTokenizer();
        int[] ids = [tokenizer.BosId, .. tokenizer.Encode("And the king said, Let there be light.")];

        foreach (int id in ids)
            Console.WriteLine($"{id,5}  {tokenizer.Piece(id)}");
        Console.WriteLine(tokenizer.Decode(ids));

        // A character that is not in the vocabulary becomes the bytes of its UTF-8.
        foreach (int id in tokenizer.Encode("ψ"))
            Console.WriteLine($"{id,5}  {tokenizer.Piece(id)}");
    }
}
