using System.Text;
using KernelScope.Files;

namespace KernelScope.Text;

/// <summary>
/// The added tokens of a folder, collected from its files. The file that comes first says how a token behaves; one that gives a token
/// another id is refused.
/// </summary>
internal sealed class AddedTokens
{
    private readonly Dictionary<string, (AddedToken Token, string File)> _byContent = [];
    private readonly Dictionary<int, string> _byId = [];

    /// <summary>The id of a token; null if there is none of that text.</summary>
    public int? Find(string content) => _byContent.TryGetValue(content, out (AddedToken Token, string File) known) ? known.Token.Id : null;

    /// <summary>Takes the tokens of one file.</summary>
    /// <exception cref="InvalidDataException">A token or an id is there already, with another id or for another token.</exception>
    public void Add(IEnumerable<AddedToken> tokens, string file)
    {
        foreach (AddedToken token in tokens.Where(t => t.Content.Length > 0))
        {
            if (_byContent.TryGetValue(token.Content, out (AddedToken Token, string File) known))
            {
                if (known.Token.Id != token.Id)
                    throw BadFile.At(file, $"the added token {BadFile.Quote(token.Content)} has the id {token.Id}; in " +
                        $"{BadFile.Printable(known.File, 4096)} it has {known.Token.Id}.");
            }
            else if (!_byId.TryAdd(token.Id, token.Content))
            {
                throw BadFile.At(file, $"the id {token.Id} is given to the added tokens {BadFile.Quote(_byId[token.Id])} and " +
                    $"{BadFile.Quote(token.Content)}.");
            }
            else
            {
                _byContent.Add(token.Content, (token, file));
            }
        }
    }

    /// <summary>
    /// Those that add something to a vocabulary. Control and unknown pieces of a tokenizer.model, which transformers lists among the added
    /// tokens, stay what they are.
    /// </summary>
    /// <exception cref="InvalidDataException">A token's id or text is another's in a tokenizer.json, where an id is a token's for
    /// good.</exception>
    public List<AddedToken> Over(TokenModel model, string file)
    {
        var added = new List<AddedToken>();
        foreach ((AddedToken token, string source) in _byContent.Values)
        {
            bool known = token.Id < model.Pieces.Count && model.Pieces[token.Id].Type != PieceType.None;
            bool same = known && model.Pieces.Text(token.Id) == token.Content;
            if (same && model is SentencepieceModel && model.Pieces[token.Id].Type is PieceType.Control or PieceType.Unknown
                or PieceType.Byte)
                continue;
            if (model is JsonTokenModel && !same)
            {
                if (known)
                    throw BadFile.At(source, $"the added token {BadFile.Quote(token.Content)} has the id {token.Id}, which is " +
                        $"{BadFile.Quote(model.Pieces.Text(token.Id))} in the vocabulary of {BadFile.Printable(file, 4096)}.");
                if (model.Pieces.Find(Encoding.UTF8.GetBytes(token.Content)) is >= 0 and int other)
                    throw BadFile.At(source, $"the added token {BadFile.Quote(token.Content)} has the id {token.Id}, but {other} in the " +
                        $"vocabulary of {BadFile.Printable(file, 4096)}.");
            }

            added.Add(token);
        }

        return added;
    }
}
